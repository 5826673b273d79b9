//! The CRI log file: entries are appended in batches, and what cannot be written is counted.
//!
//! A full disk, a used-up quota or an I/O error costs the lines that come meanwhile and nothing
//! else: each later batch tries again. A line that the disk took half of is ended with a newline
//! before the next one.
//!
//! Invariant: the file is only ever appended to. It is never truncated, synced or renamed here:
//! the kubelet renames it and asks for a new one.

use super::lines::Lines;
use super::stamp;
use crate::api::Failure;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a file that could not be opened is left alone before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of a log so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes written.
    pub bytes: u64,
    /// Entries that could not be written.
    pub dropped: u64,
    /// The errno of the last failure; 0 if none failed.
    pub errno: i32,
}

/// A container's log.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<OwnedFd>,
    tried: Option<Instant>,
    /// The file's last byte is not a newline: a write was cut short.
    torn: bool,
    batch: Vec<u8>,
    counts: Counts,
}

impl Log {
    /// Opens the log, and makes its directory where that is missing; `None` drops all output.
    ///
    /// # Errors
    /// A path that cannot be a log file. A full disk is no error: the file is tried again.
    pub fn open(path: Option<PathBuf>) -> Result<Self, Failure> {
        let mut log = Self {
            path,
            file: None,
            tried: None,
            torn: false,
            batch: Vec::new(),
            counts: Counts::default(),
        };
        match log.try_open() {
            Err((_, errno)) if disk_refuses(errno) => log.counts.errno = errno.raw_os_error(),
            other => other.map_err(|(step, errno)| Failure::system(step, errno))?,
        }
        Ok(log)
    }

    /// Opens the path anew; the file that was written so far is left as it is.
    ///
    /// # Errors
    /// When the new file cannot be made; the old one is then written on.
    pub fn reopen(&mut self) -> Result<(), Failure> {
        self.try_open()
            .map_err(|(step, errno)| Failure::system(step, errno))
    }

    /// Appends what a stream has said.
    pub fn append(&mut self, lines: &mut Lines, mut data: &[u8]) {
        if self.path.is_none() {
            return;
        }
        let stamp = stamp::now();
        while !data.is_empty() {
            let taken = lines.feed(&stamp, data, &mut self.batch);
            data = &data[taken..];
            self.write_batch();
        }
    }

    /// Appends what a stream has left without a newline; it has ended.
    pub fn finish(&mut self, lines: &mut Lines) {
        if self.path.is_some() {
            lines.finish(&stamp::now(), &mut self.batch);
            self.write_batch();
        }
    }

    /// Gives memory back that only a busy stream needs.
    pub fn shed(&mut self) {
        self.batch = Vec::new();
    }

    /// Whether it owns memory that [`Log::shed`] would give back.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.batch.capacity() > 0
    }

    /// What became of it so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn try_open(&mut self) -> Result<(), (String, Errno)> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        self.tried = Some(Instant::now());
        let file = open_file(path).map_err(|errno| (format!("open the log {path:?}"), errno))?;
        self.file = Some(file);
        self.torn = false;
        Ok(())
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let (written, error) = self.write_all(&batch);
        self.counts.bytes += written as u64;
        if let Some(errno) = error {
            self.lose(&batch, written, errno);
        }
        self.batch = batch;
        self.batch.clear();
    }

    /// Writes as much as the disk takes: how much that was, and what stopped it.
    fn write_all(&mut self, batch: &[u8]) -> (usize, Option<Errno>) {
        if self.file.is_none() && self.tried.is_none_or(|at| at.elapsed() >= AGAIN) {
            // A failure leaves `file` empty, which is what is looked at next.
            let _ = self.try_open();
        }
        let Some(file) = &self.file else {
            return (0, Some(Errno::from_raw_os_error(self.counts.errno)));
        };
        if self.torn {
            match write_whole(file, b"\n") {
                (_, Some(errno)) => return (0, Some(errno)),
                (_, None) => self.torn = false,
            }
        }
        write_whole(file, batch)
    }

    fn lose(&mut self, batch: &[u8], written: usize, errno: Errno) {
        let lost = batch[written..]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        self.counts.dropped += lost as u64;
        self.counts.errno = errno.raw_os_error();
        self.torn |= written > 0 && batch[written - 1] != b'\n';
    }
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

fn disk_refuses(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::IO)
}

/// Opens a regular file for appending. A link is refused, and so is a FIFO, whose reader could
/// hold the shim up.
fn open_file(path: &Path) -> Result<OwnedFd, Errno> {
    match open_existing_directory(path) {
        Err(Errno::NOENT) => {
            let parent = path.parent().ok_or(Errno::NOENT)?;
            std::fs::create_dir_all(parent)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            open_existing_directory(path)
        }
        other => other,
    }
}

fn open_existing_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o640))?;
    let mode = rustix::fs::fstat(&file)?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests;
