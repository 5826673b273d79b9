//! Netlink: the socket, and below it the families that plugins speak.
//!
//! Invariant: one socket has one request under way, so that every answer read is that request's.

pub(crate) mod conntrack;
pub(crate) mod message;
pub(crate) mod nft;
pub(crate) mod nft_facts;
pub(crate) mod nft_rule;
pub(crate) mod route;
pub(crate) mod traffic;

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use message::{Message, messages};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const DUMP_INTERRUPTED: u16 = 0x10;
const MULTI: u16 = 2;
/// Somebody else changes it each time only if he is at it without a pause.
const TRIES: u32 = 1000;
/// The kernel sends no more at once.
const LARGEST: usize = 64 << 10;

/// What a request was answered with: the messages' kinds and what follows their headers.
pub(crate) type Replies = Vec<(u16, Vec<u8>)>;

/// A request's number, and what became of it.
type Acknowledgement = (u32, Result<(), Errno>);

/// A netlink socket of the network namespace in which it was opened.
pub(crate) struct Socket {
    fd: OwnedFd,
    number: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// `None`: rtnetlink.
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Self, Errno> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let fd = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self {
            fd,
            number: 0,
            buffer: vec![0; LARGEST],
        })
    }

    /// Sends all in one piece, each with a demand for its acknowledgement; the first refusal and the
    /// place of its message is the error. The kernel goes on after a refusal.
    pub(crate) fn run(&mut self, messages: &[Message]) -> Result<(), (usize, Errno)> {
        let Some(last) = messages.len().checked_sub(1) else {
            return Ok(());
        };
        let first = self.number + 1;
        self.send(messages).map_err(|errno| (0, errno))?;
        let mut refused = None;
        loop {
            for (number, answer) in self.acknowledgements().map_err(|errno| (0, errno))? {
                let place = usize::try_from(number.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let Err(errno) = answer {
                    refused = refused.or(Some((place, errno)));
                }
                if place == last {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// One message that changes something.
    pub(crate) fn change(&mut self, message: Message) -> Result<(), Errno> {
        self.run(&[message]).map_err(|(_, errno)| errno)
    }

    /// Sends as they are, and gives the number of the last.
    fn send(&mut self, messages: &[Message]) -> Result<u32, Errno> {
        let mut bytes = Vec::new();
        for message in messages {
            self.number += 1;
            message.finish(self.number, &mut bytes);
        }
        send(self.fd.as_fd(), &bytes, SendFlags::empty())?;
        Ok(self.number)
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        loop {
            match recv(
                self.fd.as_fd(),
                self.buffer.as_mut_slice(),
                RecvFlags::empty(),
            ) {
                Err(Errno::INTR) => {}
                received => return received.map(|(_, length)| length),
            }
        }
    }

    fn acknowledgements(&mut self) -> Result<Vec<Acknowledgement>, Errno> {
        let length = self.receive()?;
        let all = messages(&self.buffer[..length]);
        let errors = all.filter(|(kind, ..)| *kind == ERROR);
        Ok(errors
            .map(|(_, _, number, body)| (number, verdict(body)))
            .collect())
    }

    /// Asks for one thing, or with [`message::DUMP`] for all, which is asked for again where it
    /// changed meanwhile.
    pub(crate) fn ask(&mut self, message: &Message) -> Result<Replies, Errno> {
        for _ in 0..TRIES {
            if let Some(replies) = self.ask_once(message)? {
                return Ok(replies);
            }
        }
        Err(Errno::AGAIN)
    }

    /// To the end of the answer; `None` where it is not of one moment.
    fn ask_once(&mut self, message: &Message) -> Result<Option<Replies>, Errno> {
        let number = self.send(std::slice::from_ref(message))?;
        let mut replies = Vec::new();
        let mut is_whole = true;
        loop {
            let length = self.receive()?;
            for (kind, flags, of, body) in messages(&self.buffer[..length]) {
                if of != number {
                    continue;
                }
                is_whole &= flags & DUMP_INTERRUPTED == 0;
                match kind {
                    ERROR => return verdict(body).map(|()| Some(replies)),
                    DONE => return Ok(is_whole.then_some(replies)),
                    kind => replies.push((kind, body.to_vec())),
                }
                if flags & MULTI == 0 {
                    return Ok(Some(replies));
                }
            }
        }
    }
}

fn verdict(body: &[u8]) -> Result<(), Errno> {
    let code = message::u32_at(body, 0).map(u32::cast_signed);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw_os_error(code.saturating_neg())),
        None => Err(Errno::PROTO),
    }
}
