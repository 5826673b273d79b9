//! A container's log, as the shim sees it: entries are gathered and handed to the process that
//! writes them ([`super::writer`]); what could not be written is counted.
//!
//! While that process is at work the entries of what is read meanwhile are gathered, up to
//! [`FULL`]; then the streams are not read, and the container waits at its own pipe.
//!
//! Invariant: nothing here waits for the disk.

use super::file::{self, LogFile, Written};
use super::lines::Lines;
use super::stamp;
use super::writer::{PACKET, Writer};
use crate::api::Failure;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// From this many bytes on nothing is to be read for the log.
const FULL: usize = 64 * 1024;
/// How long entries are kept before it is tried again to begin a writer.
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
    /// As the next writer begins with it; not open here.
    file: Option<LogFile>,
    writer: Option<Writer>,
    /// When no writer could be begun.
    refused: Option<Instant>,
    batch: Vec<u8>,
    /// How many entries that is.
    entries: u64,
    /// Those that are being written.
    sent: u64,
    openings: Openings,
    counts: Counts,
}

/// Wishes for a new file. Numbered, so that one is not granted by an opening that came before it.
#[derive(Debug, Default)]
struct Openings {
    wanted: u64,
    asked: u64,
    done: u64,
    /// Why the last one failed; 0 if it did not.
    errno: i32,
}

impl Log {
    /// Opens the log once, and makes its directory where that is missing; `None` drops all output.
    ///
    /// # Errors
    /// A path that cannot be a log file. A full disk is no error: the file is tried again.
    pub fn open(path: Option<PathBuf>) -> Result<Self, Failure> {
        let mut log = Self {
            file: path.map(LogFile::at),
            writer: None,
            refused: None,
            batch: Vec::new(),
            entries: 0,
            sent: 0,
            openings: Openings::default(),
            counts: Counts::default(),
        };
        if let Some(file) = &mut log.file {
            match file.open() {
                Err(errno) if file::disk_refuses(errno) => log.counts.errno = errno.raw_os_error(),
                Err(errno) => return Err(cannot_open(file, errno)),
                Ok(()) => file.close(false),
            }
        }
        Ok(log)
    }

    /// Wants the path to be opened anew; the number to ask [`Log::reopened`] with.
    pub fn reopen(&mut self) -> u64 {
        self.openings.wanted += 1;
        if self.file.is_none() {
            self.openings.done = self.openings.wanted;
        }
        self.hand_over();
        self.openings.wanted
    }

    /// What became of that wish; `None` while it is not granted.
    #[must_use]
    pub fn reopened(&self, wish: u64) -> Option<Result<(), Failure>> {
        let (openings, file) = (&self.openings, self.file.as_ref());
        (openings.done >= wish).then(|| match (openings.errno, file) {
            (0, _) | (_, None) => Ok(()),
            (errno, Some(file)) => Err(cannot_open(file, Errno::from_raw_os_error(errno))),
        })
    }

    /// Appends what a stream has said.
    pub fn append(&mut self, lines: &mut Lines, data: &[u8]) {
        if self.file.is_some() {
            self.entries += lines.feed(&stamp::now(), data, &mut self.batch);
            self.hand_over();
        }
    }

    /// Appends what a stream has left without a newline; it has ended.
    pub fn finish(&mut self, lines: &mut Lines) {
        if self.file.is_some() {
            self.entries += lines.finish(&stamp::now(), &mut self.batch);
            self.hand_over();
        }
    }

    /// Counts what a stream has said as lost.
    pub fn forgo(&mut self, data: &[u8]) {
        if self.file.is_some() {
            self.counts.dropped += file::entries(data);
        }
    }

    /// Whether nothing more is to be read for it now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.batch.len() >= FULL
    }

    /// Whether something is not written yet.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.batch.is_empty() || self.writer.as_ref().is_some_and(Writer::is_busy)
    }

    /// What becomes readable when it can go on.
    #[must_use]
    pub fn socket(&self) -> Option<&OwnedFd> {
        self.writer.as_ref().map(Writer::socket)
    }

    /// How long a poll may last before the log wants to be looked at again.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        let refused = self.refused.filter(|_| self.wants())?;
        Some(AGAIN.saturating_sub(refused.elapsed()))
    }

    /// Takes the writer's answer, where there is one, and lets it go on.
    pub fn turn(&mut self) {
        if let Some(writer) = &mut self.writer {
            match writer.answer() {
                Ok(Some(written)) => self.note(written),
                Ok(None) => {}
                Err(_) => self.lose_writer(),
            }
        }
        self.hand_over();
    }

    /// Nothing has happened for a while: gives back what only a busy container needs, memory and the
    /// writer.
    pub fn shed(&mut self) {
        self.hand_over();
        if !self.is_behind() {
            self.writer = None;
            self.batch = Vec::new();
        }
    }

    /// Whether there is something that [`Log::shed`] would give back.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        !self.is_behind() && (self.writer.is_some() || self.batch.capacity() > 0)
    }

    /// What became of it so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn wants(&self) -> bool {
        self.openings.wanted > self.openings.done || !self.batch.is_empty()
    }

    fn note(&mut self, written: Written) {
        if self.openings.asked > self.openings.done {
            self.openings.done = self.openings.asked;
            self.openings.errno = written.errno;
            return;
        }
        self.counts.bytes += written.bytes;
        self.counts.dropped += written.dropped;
        if written.errno != 0 {
            self.counts.errno = written.errno;
        }
        if let Some(file) = &mut self.file {
            file.close(written.torn);
        }
        self.sent = 0;
    }

    /// Somebody has killed it.
    fn lose_writer(&mut self) {
        self.writer = None;
        self.openings.asked = self.openings.done;
        self.counts.dropped += self.sent;
        if self.sent > 0 {
            self.counts.errno = Errno::PIPE.raw_os_error();
        }
        self.sent = 0;
    }

    /// Gives the writer its next work, where there is some and it has none.
    fn hand_over(&mut self) {
        if !self.wants() || self.writer.as_ref().is_some_and(Writer::is_busy) {
            return;
        }
        let opens = self.openings.wanted > self.openings.done;
        let Some(mut writer) = self.take_writer() else {
            return;
        };
        let handed = match opens {
            true => self.send_opening(&mut writer),
            false => self.send_batch(&mut writer),
        };
        match handed {
            Ok(()) => self.writer = Some(writer),
            Err(_) => self.refused = Some(Instant::now()),
        }
    }

    fn send_opening(&mut self, writer: &mut Writer) -> Result<(), Errno> {
        writer.open()?;
        self.openings.asked = self.openings.wanted;
        Ok(())
    }

    fn send_batch(&mut self, writer: &mut Writer) -> Result<(), Errno> {
        let length = whole_entries(&self.batch);
        writer.write(&self.batch[..length])?;
        self.sent = match length == self.batch.len() {
            true => self.entries,
            false => file::entries(&self.batch[..length]),
        };
        self.entries -= self.sent;
        self.batch.drain(..length);
        Ok(())
    }

    /// The writer; `None` where the kernel refuses one, which is asked again later.
    fn take_writer(&mut self) -> Option<Writer> {
        if self.writer.is_some() {
            return self.writer.take();
        }
        if self.refused.is_some_and(|at| at.elapsed() < AGAIN) {
            return None;
        }
        let begun = Writer::begin(self.file.as_mut()?);
        self.refused = begun.is_err().then(Instant::now);
        begun.ok()
    }
}

/// How much of a batch goes into a packet: all of it, or what ends with a newline.
fn whole_entries(batch: &[u8]) -> usize {
    if batch.len() <= PACKET {
        return batch.len();
    }
    let end = batch[..PACKET].iter().rposition(|&byte| byte == b'\n');
    end.map_or(PACKET, |end| end + 1)
}

fn cannot_open(file: &LogFile, errno: Errno) -> Failure {
    Failure::system(format!("open the log {:?}", file.path()), errno)
}

#[cfg(test)]
mod tests;
