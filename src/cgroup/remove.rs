//! The end of a cgroup: rmdir from the leaves up, in every hierarchy.

use super::CgroupError;
use super::kill::processes;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// How long each further try waits: a process that was just killed leaves its cgroup some
/// milliseconds after its end was seen.
const WAITS_MS: [u64; 9] = [0, 1, 2, 5, 10, 20, 50, 100, 200];

/// Removes these directories, which are one cgroup in all hierarchies. An error in one does not
/// keep the others from being removed; the first is told.
pub fn everywhere(cgroup: &str, directories: &[PathBuf]) -> Result<(), CgroupError> {
    let mut first = Ok(());
    for directory in directories {
        let result = tree_with_patience(cgroup, directory);
        first = first.and(result);
    }
    first
}

fn tree_with_patience(cgroup: &str, directory: &Path) -> Result<(), CgroupError> {
    let mut last = None;
    for wait in WAITS_MS {
        sleep(Duration::from_millis(wait));
        match tree(directory) {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    let pids = processes(directory)?;
    match last {
        Some(source) if pids.is_empty() => Err(CgroupError::io("remove cgroup", directory)(source)),
        _ => Err(CgroupError::Alive {
            cgroup: cgroup.to_owned(),
            pids: pids.into_iter().collect(),
        }),
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
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
