//! One daemon for each root: a lock that ends with the process, however it ends.

use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The lock; dropping it gives it back.
#[derive(Debug)]
pub struct RootLock {
    _file: File,
}

impl RootLock {
    /// Takes the lock of `root`, which is made where it is not there.
    ///
    /// # Errors
    /// `FailedPrecondition` where another process has it; it names the process.
    pub fn take(root: &Path) -> Result<Self> {
        let failed = || format!("lock {}", root.display());
        std::fs::create_dir_all(root).context(Kind::Internal, failed)?;
        let path = root.join("lock");
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(&path).context(Kind::Internal, failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(root, &mut file)),
            Err(errno) => return Err(errno).context(Kind::Internal, failed),
        }
        sign(&mut file).context(Kind::Internal, failed)?;
        Ok(Self { _file: file })
    }
}

/// Leaves the pid for whoever comes second.
fn sign(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn taken(root: &Path, file: &mut File) -> Error {
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    Error::precondition(format!(
        "{} is in use by process {}: one daemon for each root",
        root.display(),
        pid.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let first = RootLock::take(&root).unwrap();
        let error = RootLock::take(&root).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        RootLock::take(&root).unwrap();
    }
}
