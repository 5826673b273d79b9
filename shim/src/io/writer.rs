//! The process that writes a log: the only one that a disk can hold up.
//!
//! ```text
//!  shim                                     writer
//!    │ ── a batch of entries, one packet ─────▶ │ appends it
//!    │ ◀───────── what became of it ─────────── │
//!    │ ── one byte ───────────────────────────▶ │ opens the path anew
//!    │ ◀───────── whether that went ─────────── │
//!    ╳ closes its end                           │ ends
//! ```
//! It is a fork of the shim, begun when there is something to write and ended when there was nothing
//! for a second, so that a quiet container costs no memory for it. A write, an open or a close that
//! waits for ever (a frozen file system, a server that has gone) is the writer's alone: it has a table
//! of descriptors and a life of its own, which a thread would not have.
//!
//! Invariant: one packet is on its way at most, so no send waits; and the child allocates nothing.

use super::file::{LogFile, Written};
use crate::sys::clone::clone3;
use crate::sys::descriptors;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Signal, pidfd_send_signal};

/// The most bytes of a packet: well below what a socket takes in one.
pub const PACKET: usize = 128 * 1024;
/// A packet of this asks for the path to be opened anew. An entry is longer.
const OPEN: &[u8] = b"O";
/// The length of an answer.
const ANSWER: usize = 21;

/// A process that writes.
#[derive(Debug)]
pub struct Writer {
    socket: OwnedFd,
    process: OwnedFd,
    busy: bool,
}

impl Writer {
    /// Begins one for this file.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin(file: &mut LogFile) -> Result<Self, Errno> {
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // Of pages that only the child touches.
        let mut room = vec![0; PACKET];
        let process = clone3(0, None, || serve(&theirs, file, &mut room))?.pidfd;
        Ok(Self {
            socket,
            process,
            busy: false,
        })
    }

    /// Readable when it has answered, or has ended.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether it has not answered yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Lets it write at most [`PACKET`] bytes.
    ///
    /// # Errors
    /// That it has ended.
    pub fn write(&mut self, batch: &[u8]) -> Result<(), Errno> {
        self.send(batch)
    }

    /// Lets it open the path anew.
    ///
    /// # Errors
    /// That it has ended.
    pub fn open(&mut self) -> Result<(), Errno> {
        self.send(OPEN)
    }

    /// What became of the last packet; `None` where that is not known yet.
    ///
    /// # Errors
    /// That it has ended.
    pub fn answer(&mut self) -> Result<Option<Written>, Errno> {
        let mut answer = [0; ANSWER];
        match rustix::net::recv(&self.socket, &mut answer, RecvFlags::DONTWAIT) {
            Ok((_, ANSWER)) => {
                self.busy = false;
                Ok(Some(decode(&answer)))
            }
            Ok(_) => Err(Errno::PIPE),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// A descriptor of it.
    #[cfg(test)]
    pub fn process(&self) -> &OwnedFd {
        &self.process
    }

    /// Sends it a signal.
    #[cfg(test)]
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.process, signal).unwrap();
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), Errno> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::send(&self.socket, packet, flags)?;
        self.busy = true;
        Ok(())
    }
}

impl Drop for Writer {
    /// One that is at work may never come back, and nobody would hear of it.
    fn drop(&mut self) {
        if self.busy {
            // One that has ended needs no signal.
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
        }
    }
}

/// What the child does, until nobody is at the other end; its exit code.
fn serve(socket: &OwnedFd, file: &mut LogFile, room: &mut [u8]) -> i32 {
    // It never drops what it does not own any more: it leaves by `_exit`.
    let _ = descriptors::close_all_but(&[socket.as_fd()]);
    let _ = rustix::thread::set_name(c"corten-log");
    loop {
        let packet = match rustix::net::recv(socket, &mut *room, RecvFlags::empty()) {
            Ok((_, 0)) => return 0,
            Ok((_, length)) => &room[..length.min(PACKET)],
            // The latter is told once where an answer was left unread; what was sent before is still there.
            Err(Errno::INTR | Errno::CONNRESET) => continue,
            Err(_) => return 1,
        };
        let written = match packet {
            OPEN => opened(file),
            batch => file.write(batch),
        };
        // Where nobody listens the next packet tells.
        let _ = rustix::net::send(socket, &encode(written), SendFlags::NOSIGNAL);
    }
}

fn opened(file: &mut LogFile) -> Written {
    Written {
        errno: file.open().err().map_or(0, Errno::raw_os_error),
        ..Written::default()
    }
}

fn encode(written: Written) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    answer[..8].copy_from_slice(&written.bytes.to_ne_bytes());
    answer[8..16].copy_from_slice(&written.dropped.to_ne_bytes());
    answer[16..20].copy_from_slice(&written.errno.to_ne_bytes());
    answer[20] = u8::from(written.torn);
    answer
}

fn decode(answer: &[u8; ANSWER]) -> Written {
    let (mut bytes, mut dropped, mut errno) = ([0; 8], [0; 8], [0; 4]);
    bytes.copy_from_slice(&answer[..8]);
    dropped.copy_from_slice(&answer[8..16]);
    errno.copy_from_slice(&answer[16..20]);
    Written {
        bytes: u64::from_ne_bytes(bytes),
        dropped: u64::from_ne_bytes(dropped),
        errno: i32::from_ne_bytes(errno),
        torn: answer[20] != 0,
    }
}
