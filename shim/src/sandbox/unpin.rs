//! Takes a pod's pins away.
//!
//! What is gone already is passed over, and what fails does not keep the rest. A network namespace
//! ends with its last reference, in the background: nobody waits for its links.

use super::holder;
use crate::api::{Failure, Pins};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::path::Path;

/// The most mounts that one pin can have upon each other.
const DEPTH: u32 = 16;

/// Ends the holder and takes away what is named.
///
/// # Errors
/// The first failure, with the others in its chain; all else is gone.
pub fn unpin(pins: &Pins) -> Result<(), Failure> {
    let mut failures = Vec::new();
    // A daemon that was killed before it heard of its holder knows the pin alone.
    let holder = pins
        .holder
        .or_else(|| pins.pid.as_deref().and_then(holder::find));
    if let Some(name) = holder {
        failures.extend(holder::end(name).err());
    }
    let files = [&pins.pid, &pins.network, &pins.ipc, &pins.uts, &pins.user];
    for path in files.into_iter().flatten() {
        failures.extend(release(path, |path| rustix::fs::unlink(path)).err());
    }
    if let Some(path) = &pins.shm {
        failures.extend(release(path, |path| rustix::fs::rmdir(path)).err());
    }
    joined(failures)
}

/// Unmounts what is at a path, and removes the path itself.
fn release(path: &Path, remove: fn(&Path) -> Result<(), Errno>) -> Result<(), Failure> {
    for _ in 0..DEPTH {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not mounted (any more), or not there at all.
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(errno) => {
                return Err(Failure::system(
                    format!("unmount {}", path.display()),
                    errno,
                ));
            }
        }
    }
    match remove(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Failure::system(format!("remove {}", path.display()), errno)),
    }
}

fn joined(failures: Vec<Failure>) -> Result<(), Failure> {
    let mut failures = failures.into_iter();
    let Some(mut first) = failures.next() else {
        return Ok(());
    };
    first.chain.extend(failures.map(|other| other.to_string()));
    Err(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let gone = |name: &str| Some(dir.path().join(name));
        let pins = Pins {
            network: gone("net"),
            ipc: gone("no/such/ipc"),
            shm: gone("shm"),
            ..Pins::default()
        };
        unpin(&pins).unwrap();
    }

    #[test]
    fn what_fails_does_not_keep_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (stuck, file) = (dir.path().join("stuck"), dir.path().join("file"));
        std::fs::create_dir_all(stuck.join("inner")).unwrap();
        std::fs::write(&file, "").unwrap();
        let pins = Pins {
            pid: Some(stuck.clone()),
            network: Some(file.clone()),
            shm: Some(stuck),
            ..Pins::default()
        };
        let failure = unpin(&pins).unwrap_err();
        assert!(!file.exists());
        assert_eq!(failure.chain.len(), 2, "both failures are told: {failure}");
    }
}
