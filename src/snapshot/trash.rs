//! Trees that nobody needs any more: renamed away at once, deleted in the background.
//!
//! The thread that deletes gives way to all others, and rests as long as it works: the disk belongs to
//! containers.
//!
//! Invariant: what is in the trash directory is never used again, so a kill at any point leaves
//! nothing but work for the next start.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::Instant,
};

use rustix::{fs::CWD, io::Errno};
use tracing::warn;

use super::error::{Error, io_error};
use crate::trees;

/// How nice the thread is: it gets a tenth of what others get who want the same processor.
const GIVING_WAY: i32 = 10;
/// Names that are deleted without a rest.
const TURN: u32 = 64;

/// A directory on the same file system as what is thrown into it, and the thread that empties it.
#[derive(Debug)]
pub struct Trash {
    directory: PathBuf,
    next: AtomicU64,
    work: Sender<PathBuf>,
}

impl Trash {
    /// Opens or makes the directory and goes on with what the last run left there.
    ///
    /// # Errors
    /// Where the directory cannot be made or listed, or no thread be started.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(io_error("make", directory))?;
        let (work, list) = mpsc::channel::<PathBuf>();
        let empty = move || {
            // Of this thread alone, as Linux has it. Where it is refused it is only less polite.
            let _ = rustix::process::setpriority_process(None, GIVING_WAY);
            list.into_iter().for_each(|path| delete(&path));
        };
        thread::Builder::new()
            .name("corten-trash".into())
            .spawn(empty)
            .map_err(io_error("start a thread for", directory))?;
        let trash = Self {
            directory: directory.to_owned(),
            next: AtomicU64::new(0),
            work,
        };
        for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
            let entry = entry.map_err(io_error("list", directory))?;
            trash.delete_later(entry.path());
        }
        Ok(trash)
    }

    /// Makes `path` disappear. What is not there has disappeared.
    ///
    /// # Errors
    /// Where it cannot be renamed.
    pub fn throw(&self, path: &Path) -> Result<(), Error> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let to = self.directory.join(number.to_string());
            if to.symlink_metadata().is_ok() {
                continue; // left by the last run
            }
            return match fs::rename(path, &to) {
                Ok(()) => {
                    self.delete_later(to);
                    Ok(())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(io_error("throw away", path)(error)),
            };
        }
    }

    fn delete_later(&self, path: PathBuf) {
        if self.work.send(path).is_err() {
            warn!(directory = %self.directory.display(), "the trash thread is gone; the next start deletes");
        }
    }
}

fn delete(path: &Path) {
    if let Err(error) = remove(path, &mut Pace::default()) {
        warn!(path = %path.display(), %error, "trash not deleted; the next start tries again");
    }
}

fn remove(path: &Path, pace: &mut Pace) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    match trees::remove_at(CWD, &name, |_| pace.removed()) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Rests after every [`TURN`] names for as long as these took.
struct Pace {
    names: u32,
    since: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            names: 0,
            since: Instant::now(),
        }
    }
}

impl Pace {
    fn removed(&mut self) {
        self.names += 1;
        if self.names.is_multiple_of(TURN) {
            thread::sleep(self.since.elapsed());
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn wait_until_empty(directory: &Path) {
        while fs::read_dir(directory).unwrap().count() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn thrown_trees_and_those_of_the_last_run_disappear() {
        let root = TempDir::new().unwrap();
        let (bin, tree) = (root.path().join("bin"), root.path().join("tree"));
        fs::create_dir_all(bin.join("0/old")).unwrap();
        fs::create_dir_all(tree.join("deep")).unwrap();
        fs::write(tree.join("deep/file"), b"x").unwrap();
        let trash = Trash::open(&bin).unwrap();
        trash.throw(&tree).unwrap();
        assert!(!tree.exists());
        trash.throw(&tree).unwrap();
        wait_until_empty(&bin);
    }
}
