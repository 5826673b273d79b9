//! A container's streams: read once, written to the log, copied to those who are attached.
//!
//! Invariant: nothing here waits. Every descriptor that is read is non-blocking and read at most
//! [`TURN`] bytes a turn; a client that does not read costs at most twice [`attach::BEHIND`] bytes,
//! and its stream a fraction of a second; a log that cannot be written is counted, not waited for,
//! and its disk can hold up only the process that writes ([`writer`]).

pub mod attach;
pub mod file;
pub mod lines;
pub mod log;
pub mod stamp;
pub mod streams;
pub mod writer;

/// The most that one descriptor may have read of it before others get their turn, in bytes: what
/// keeps a call answered in 0.2 ms while both streams flood.
pub const TURN: usize = 16 * 1024;

/// Which of a container's streams; a terminal has only the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal's.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in the log.
    #[must_use]
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Stdout => b"stdout",
            Self::Stderr => b"stderr",
        }
    }
}
