//! An input as packets of a `SEQPACKET` socket, as a peer that says anything would send them: with bodies in the packet
//! or in a memfd, sealed or not, and with descriptors, also more than are agreed.
//!
//! ```text
//! flags, kind, length (2 bytes, little endian), body …    and so on
//! flags: 1 in a memfd · 2 which is not sealed · 4 without the byte in front · from 16 on: how many descriptors
//! ```

use corten_shim::packet::MAX_FDS;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;

const MOST_DESCRIPTORS: usize = 15;

/// One packet, as the input has it.
pub struct Packet<'a> {
    pub kind: u8,
    pub flags: u8,
    pub body: &'a [u8],
}

/// What a reader has to make of a packet.
pub enum Heard<'a> {
    /// A message of these bytes, with so many descriptors.
    Message(&'a [u8], usize),
    Nonsense,
    /// A packet of no bytes is how a socket says that its peer has gone.
    End,
}

/// Cuts an input; the last packet has what is left.
pub fn packets(mut input: &[u8]) -> Vec<Packet<'_>> {
    let mut all = Vec::new();
    while let [flags, kind, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        all.push(Packet {
            kind: *kind,
            flags: *flags,
            body,
        });
        input = rest;
    }
    all
}

impl Packet<'_> {
    pub fn heard(&self) -> Heard<'_> {
        let (memfd, others) = (self.in_memfd(), self.descriptors());
        let marked = match (self.is_bare(), self.body) {
            (false, _) => memfd,
            (true, []) => return Heard::End,
            (true, [0, ..]) => false,
            (true, [1]) => true,
            (true, _) => return Heard::Nonsense,
        };
        let body = if self.is_bare() && !marked {
            &self.body[1..]
        } else {
            self.body
        };
        match (marked, usize::from(memfd) + others) {
            (_, all) if all > MAX_FDS => Heard::Nonsense,
            (true, _) if !memfd || !self.is_sealed() => Heard::Nonsense,
            (true, _) => Heard::Message(body, others),
            (false, all) => Heard::Message(body, all),
        }
    }

    /// How many descriptors go beside it, without that of its body.
    fn descriptors(&self) -> usize {
        usize::from(self.flags >> 4).min(MOST_DESCRIPTORS - 1)
    }

    fn in_memfd(&self) -> bool {
        self.flags & 1 != 0
    }

    fn is_sealed(&self) -> bool {
        self.flags & 2 == 0
    }

    fn is_bare(&self) -> bool {
        self.flags & 4 != 0
    }

    /// Sends it without waiting.
    pub fn send(&self, socket: &OwnedFd) -> Result<(), Errno> {
        let memfd = self.in_memfd().then(|| self.memfd());
        let packet = match (&memfd, self.is_bare()) {
            (Some(_), false) => vec![1],
            (None, false) => [&[0], self.body].concat(),
            (_, true) => self.body.to_vec(),
        };
        let other = std::io::stdin();
        let mut fds: Vec<_> = memfd.iter().map(AsFd::as_fd).collect();
        fds.extend(std::iter::repeat_n(other.as_fd(), self.descriptors()));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(socket, &[IoSlice::new(&packet)], &mut ancillary, flags).map(drop)
    }

    fn memfd(&self) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("body", flags).expect("a memfd"));
        file.write_all(self.body).expect("room");
        if self.is_sealed() {
            let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
            rustix::fs::fcntl_add_seals(&file, seals).expect("seals");
        }
        file.into()
    }
}

pub fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("sockets")
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}
