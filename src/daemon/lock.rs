//! One daemon for each root: a lock that ends with the process, however it ends.

use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A daemon that was killed while it started a program leaves the lock to that program's process for
/// the moment until it executes; on a busy node a long one.
const INHERITED: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const LOOK: Duration = Duration::from_millis(20);

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
        let deadline = Instant::now() + INHERITED;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK)
                    if Instant::now() < deadline && !owner(&mut file).lives() =>
                {
                    std::thread::sleep(LOOK);
                }
                Err(Errno::WOULDBLOCK) => return Err(taken(root, &mut file)),
                Err(errno) => return Err(errno).context(Kind::Internal, failed),
            }
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

/// Who has signed, as text: a daemon of another PID namespace has a number that means nothing here.
struct Owner(String);

impl Owner {
    fn lives(&self) -> bool {
        !self.0.is_empty() && Path::new("/proc").join(&self.0).exists()
    }
}

fn owner(file: &mut File) -> Owner {
    let mut pid = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut pid));
    Owner(pid.trim().to_owned())
}

fn taken(root: &Path, file: &mut File) -> Error {
    Error::precondition(format!(
        "{} is in use by process {}: one daemon for each root",
        root.display(),
        owner(file).0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

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
        // A program that another test is just starting has a copy of the lock until it is executed.
        let since = Instant::now();
        while let Err(error) = RootLock::take(&root) {
            assert!(since.elapsed() < PATIENCE, "{error}");
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn what_a_dead_daemon_has_left_to_a_child_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut killed = RootLock::take(dir.path()).unwrap();
        // No process has this number.
        killed._file.set_len(0).unwrap();
        killed._file.rewind().unwrap();
        writeln!(killed._file, "{}", i32::MAX).unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(LOOK * 3);
            drop(killed);
        });
        RootLock::take(dir.path()).unwrap();
        child.join().unwrap();
    }
}
