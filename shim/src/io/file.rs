//! The CRI log file: batches of entries are appended, and what cannot be written is counted.
//!
//! A full disk, a used-up quota or an I/O error costs the lines that come meanwhile and nothing
//! else: each later batch tries again. A line that the disk took half of is ended with a newline
//! before the next one.
//!
//! A container may have the node's logs as a volume: below the pod's own log directory no link is followed.
//!
//! Invariant: the file is only ever appended to. It is never truncated, synced or renamed here:
//! the kubelet renames it and asks for a new one.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A directory, to be opened in.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// No link, and nothing above.
const PLAIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// How long a file that could not be opened is left alone before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes written.
    pub bytes: u64,
    /// Entries that could not be written.
    pub dropped: u64,
    /// The errno of the failure; 0 if there was none.
    pub errno: i32,
    /// The file's last byte is not a newline: a write was cut short.
    pub torn: bool,
}

/// A log file, opened when something is to be written.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<OwnedFd>,
    tried: Option<(Instant, Errno)>,
    torn: bool,
}

impl LogFile {
    /// The one at this path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            tried: None,
            torn: false,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the path anew, and makes its directory where that is missing; on failure what was
    /// open is written on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(&mut self) -> Result<(), Errno> {
        let file = open_file(&self.path).inspect_err(|errno| {
            self.tried = Some((Instant::now(), *errno));
        })?;
        self.file = Some(file);
        self.torn = false;
        Ok(())
    }

    /// Lets go of it; the next writer opens the path. `torn` as in [`Written`].
    pub fn close(&mut self, torn: bool) {
        self.file = None;
        self.torn = torn;
    }

    /// Appends a batch of entries, as much of it as the disk takes.
    pub fn write(&mut self, batch: &[u8]) -> Written {
        let (written, error) = self.write_all(batch);
        if error.is_some() {
            self.torn |= written > 0 && batch[written - 1] != b'\n';
        }
        Written {
            bytes: written as u64,
            dropped: entries(&batch[written..]),
            errno: error.map_or(0, Errno::raw_os_error),
            torn: self.torn,
        }
    }

    /// How much that was, and what stopped it.
    fn write_all(&mut self, batch: &[u8]) -> (usize, Option<Errno>) {
        match self.tried {
            _ if self.file.is_some() => {}
            Some((at, errno)) if at.elapsed() < AGAIN => return (0, Some(errno)),
            _ => {
                let torn = self.torn;
                if let Err(errno) = self.open() {
                    return (0, Some(errno));
                }
                self.torn = torn;
            }
        }
        let Some(file) = &self.file else {
            return (0, Some(Errno::BADF));
        };
        if self.torn {
            match write_whole(file, b"\n") {
                (_, Some(errno)) => return (0, Some(errno)),
                (_, None) => self.torn = false,
            }
        }
        write_whole(file, batch)
    }
}

/// How many entries end here.
#[must_use]
pub fn entries(batch: &[u8]) -> u64 {
    batch.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// A disk that may take more later: no reason to refuse a container.
#[must_use]
pub fn disk_refuses(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::IO)
}

fn write_whole(file: &OwnedFd, data: &[u8]) -> (usize, Option<Errno>) {
    let mut written = 0;
    while written < data.len() {
        match rustix::io::write(file, &data[written..]) {
            Ok(0) => return (written, Some(Errno::IO)),
            Ok(more) => written += more,
            Err(Errno::INTR) => {}
            Err(errno) => return (written, Some(errno)),
        }
    }
    (written, None)
}

/// Opens a regular file for appending, and makes its directory where that is missing. A link is
/// refused, and so is a FIFO, whose reader could hold the shim up.
fn open_file(path: &Path) -> Result<OwnedFd, Errno> {
    let file = match open_in_place(path) {
        Err(Errno::NOENT) => {
            make_directories(path)?;
            open_in_place(path)
        }
        other => other,
    }?;
    let mode = rustix::fs::fstat(&file)?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::INVAL),
    }
}

fn open_in_place(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o640);
    match parts(path) {
        None => rustix::fs::openat(CWD, path, flags, mode),
        Some((base, below)) => openat2(directory(base)?, below, flags, mode, PLAIN),
    }
}

/// What is the node's, and what is below it and may have been replaced by a link.
fn parts(path: &Path) -> Option<(&Path, &Path)> {
    let path = path.as_os_str().as_bytes();
    let at = path.windows(3).position(|part| part == b"/./")?;
    let part = |bytes| Path::new(OsStr::from_bytes(bytes));
    Some((part(&path[..at]), part(&path[at + 3..])))
}

fn directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
}

fn make_directories(path: &Path) -> Result<(), Errno> {
    let (base, below) = parts(path).unwrap_or((path.parent().ok_or(Errno::NOENT)?, Path::new("")));
    std::fs::create_dir_all(base)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut place = directory(base)?;
    for name in below.parent().unwrap_or(below) {
        match rustix::fs::mkdirat(&place, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        place = openat2(&place, name, DIRECTORY, Mode::empty(), PLAIN)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
