//! What writable layers take, as the file system itself counts it: by project quotas.
//!
//! Where it has them (ext4 made with `-O quota,project`; XFS mounted with `prjquota`), the writable directories
//! of a container are a project of their own, and what that takes is one question to the kernel, whatever
//! is in it. No limit is set, so what has gone leaves nothing behind.
//!
//! Invariants: an id is one that nothing on the file system has, and that nobody can guess: outside of user
//! namespaces whoever owns a file may give it to any project, also to a neighbour's. For the same reason
//! a count may be too low; who asks for it looks at the files once in a while (`engine/stats/layers.rs`).

use std::{
    fs, io,
    ops::RangeInclusive,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use corten_shim::sys::quota;
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, open},
    io::Errno,
};
use tracing::{info, warn};

use crate::unpack::Usage;

/// Ids that are ours: the kubelet's begin at 1048577, and tools take them for signed numbers.
const OURS: RangeInclusive<u32> = 0x4000_0000..=0x7fff_ffff;
/// Somebody else may have the first that is drawn.
const TRIES: usize = 8;

/// The projects of one file system.
#[derive(Debug, Default)]
pub struct Projects {
    offered: bool,
    /// One could not be made: those that are there still count.
    given_up: AtomicBool,
}

impl Projects {
    /// Tries it out with a new directory in this one, and says what came of it.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let place = directory.join(".project");
        let tried = fs::create_dir_all(&place)
            .and_then(|()| try_in(&place))
            .inspect_err(|_| drop(fs::remove_dir(&place)))
            .and_then(|()| fs::remove_dir(&place));
        let offered = tried.is_ok();
        match tried {
            Ok(()) => info!(
                directory = %directory.display(),
                "writable layers are counted by project quotas"
            ),
            Err(reason) => info!(
                directory = %directory.display(),
                %reason,
                "writable layers are measured by looking at their files: there are no project quotas"
            ),
        }
        Self {
            offered,
            given_up: AtomicBool::new(false),
        }
    }

    /// Makes these new directories one project. Where that fails nothing is lost but the count.
    pub fn make(&self, directories: &[&Path]) {
        if !self.offered || self.given_up.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = make(directories) {
            self.given_up.store(true, Ordering::Relaxed);
            warn!(
                ?directories,
                %error,
                "project quotas fail: writable layers that are made from now on are measured by looking at their files"
            );
        }
    }

    /// What the project of this directory takes; `None` where it has none of ours.
    #[must_use]
    pub fn usage(&self, directory: &Path) -> Option<Usage> {
        if !self.offered {
            return None;
        }
        let directory = open_directory(directory).ok()?;
        let project = quota::project(&directory).ok()?;
        let taken = OURS.contains(&project).then_some(project)?;
        let quota::Use { bytes, inodes } = quota::usage(&directory, taken).ok()?;
        Some(Usage { bytes, inodes })
    }
}

/// The count has to tell of the one directory that is there.
fn try_in(place: &Path) -> io::Result<()> {
    make(&[place])?;
    let directory = open_directory(place)?;
    match quota::usage(&directory, quota::project(&directory)?)?.inodes {
        1 => Ok(()),
        other => Err(io::Error::other(format!(
            "of one directory it counts {other}"
        ))),
    }
}

fn make(directories: &[&Path]) -> Result<(), Errno> {
    let mut project = None;
    for directory in directories {
        let directory = open_directory(directory)?;
        let project = match project {
            Some(project) => project,
            None => *project.insert(free(&directory)?),
        };
        quota::join(&directory, project)?;
    }
    Ok(())
}

/// An id that nothing has.
fn free(directory: &OwnedFd) -> Result<u32, Errno> {
    for _ in 0..TRIES {
        let drawn = getrandom::u32().map_err(|_| Errno::AGAIN)?;
        let id = OURS.start() | (drawn & (OURS.end() - OURS.start()));
        match quota::usage(directory, id) {
            Ok(quota::Use { inodes: 0, .. }) | Err(Errno::NOENT) => return Ok(id),
            taken => taken.map(drop)?,
        }
    }
    Err(Errno::BUSY)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    open(path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither this file system nor that of a machine that builds need have them: what is asked for is
    /// that what is said at the start holds, and that nothing is left of the try.
    #[test]
    fn what_is_offered_counts_and_what_is_not_is_not_asked_for() {
        let root = tempfile::TempDir::new().unwrap();
        let projects = Projects::of(root.path());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        let upper = root.path().join("upper");
        fs::create_dir(&upper).unwrap();
        projects.make(&[&upper]);
        let counted = projects.usage(&upper).map(|usage| usage.inodes);
        assert_eq!(counted, projects.offered.then_some(1));
        assert!(!projects.given_up.load(Ordering::Relaxed));
        assert_eq!(Projects::default().usage(&upper), None);
    }
}
