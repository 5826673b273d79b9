//! One daemon that talks with the shim.
//!
//! Invariant: sending never waits. What the socket does not take is queued, and a peer that leaves
//! more than [`UNREAD`] messages there is cut off: it will connect again and be told what matters.

use crate::api::{Call, Message};
use crate::packet::{self, Received};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::sockopt;
use std::collections::VecDeque;
use std::io;

/// The most messages that wait for a peer to read.
pub const UNREAD: usize = 64;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Tells it from all others of this shim's life.
    pub id: u32,
    /// Hello was said, so that events may be sent.
    pub greeted: bool,
    /// What was agreed to speak, once it was greeted.
    pub version: u16,
    socket: OwnedFd,
    queue: VecDeque<(Message, Vec<OwnedFd>)>,
    open: bool,
}

impl Connection {
    /// A connection over this socket, which becomes non-blocking.
    ///
    /// # Errors
    /// `InvalidInput` for what is not a socket of packets.
    pub fn new(id: u32, socket: OwnedFd) -> io::Result<Self> {
        let seqpacket = rustix::net::SocketType::SEQPACKET;
        if sockopt::socket_type(&socket).ok() != Some(seqpacket) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            id,
            greeted: false,
            version: 0,
            socket,
            queue: VecDeque::new(),
            open: true,
        })
    }

    /// Whether the peer is there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What to poll for.
    #[must_use]
    pub fn interest(&self) -> (&OwnedFd, PollFlags) {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.queue.is_empty());
        (&self.socket, flags)
    }

    /// The next call, if one has come. A peer that has gone, or that speaks another language,
    /// closes the connection.
    pub fn receive(&mut self) -> Option<Call> {
        match packet::receive(&self.socket) {
            Ok(Some(Received { message, .. })) => Some(message),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => {
                self.open = false;
                None
            }
        }
    }

    /// Sends a message, now or when the peer has read what came before.
    pub fn send(&mut self, message: Message, fds: Vec<OwnedFd>) {
        self.queue.push_back((message, fds));
        if self.queue.len() == 1 {
            self.flush();
        }
        self.open &= self.queue.len() <= UNREAD;
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn flush(&mut self) {
        while let Some((message, fds)) = self.queue.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match packet::send(&self.socket, message, &fds) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.open = false;
                    return;
                }
            }
        }
        self.queue = VecDeque::new();
    }
}
