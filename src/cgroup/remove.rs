//! The end of a cgroup: rmdir from the leaves up, in every hierarchy.

use super::CgroupError;
use super::kill::processes;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// How long each further try waits, all hierarchies together: a process that was just killed leaves
/// its cgroup some milliseconds after its end was seen.
const WAITS_MS: [u64; 9] = [0, 1, 2, 5, 10, 20, 50, 100, 200];

/// Removes these directories, which are one cgroup in all hierarchies. One that resists does not
/// keep the others from being removed; the first that does to the last is told.
pub fn everywhere(cgroup: &str, directories: &[PathBuf]) -> Result<(), CgroupError> {
    let mut left: Vec<(&Path, io::Error)> = Vec::new();
    let mut next: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    for wait in WAITS_MS {
        sleep(Duration::from_millis(wait));
        left = next
            .into_iter()
            .filter_map(|directory| Some((directory, tree(directory).err()?)))
            .collect();
        next = left.iter().map(|(directory, _)| *directory).collect();
        if next.is_empty() {
            return Ok(());
        }
    }
    left.into_iter()
        .try_for_each(|(directory, refused)| Err(resists(cgroup, directory, refused)))
}

/// Why a directory cannot be removed: most often somebody is still in it.
fn resists(cgroup: &str, directory: &Path, refused: io::Error) -> CgroupError {
    match processes(directory) {
        Ok(pids) if !pids.is_empty() => CgroupError::Alive {
            cgroup: cgroup.to_owned(),
            pids: pids.into_iter().collect(),
        },
        _ => CgroupError::io("remove cgroup", directory)(refused),
    }
}

/// Most cgroups have none below them, so the directory itself is tried first.
fn tree(directory: &Path) -> io::Result<()> {
    let Err(refused) = rmdir(directory) else {
        return Ok(());
    };
    let below = children(directory)?;
    if below.is_empty() {
        return Err(refused);
    }
    below.iter().try_for_each(|child| tree(child))?;
    rmdir(directory)
}

fn rmdir(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The cgroups directly below one; none where it is gone.
pub fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = match entry {
            // Removed since it was opened: systemd removes its scopes by itself.
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            other => other?,
        };
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
