//! How one message travels: one packet of a `SEQPACKET` socket, its descriptors by `SCM_RIGHTS`.
//!
//! A message whose encoding is larger than [`INLINE`] travels in a sealed memfd, which is then the
//! packet's first descriptor and is marked by an empty packet body of one byte. Both sides use
//! this module: the shim on blocking descriptors, the daemon on non-blocking ones that it polls
//! itself (`Errno::AGAIN` is passed through).
//!
//! Invariant: every descriptor received is owned, close-on-exec, and handed to the caller, also
//! when the message cannot be decoded.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;

/// The largest encoding that travels in the packet itself, in bytes: well below the 212,960 that
/// a socket buffer of default size takes.
pub const INLINE: usize = 128 * 1024;
/// The most descriptors that one packet carries.
pub const MAX_FDS: usize = 8;
/// The largest message at all, in bytes: bounds what a broken peer can make us read.
const MAX_MESSAGE: u64 = 16 * 1024 * 1024;

const BODY_INLINE: u8 = 0;
const BODY_MEMFD: u8 = 1;

/// A message and the descriptors that came with it.
#[derive(Debug)]
pub struct Received<T> {
    /// The message.
    pub message: T,
    /// Its descriptors, in the sender's order.
    pub fds: Vec<OwnedFd>,
    /// Not all of them came: this process can have no more.
    pub lost: bool,
}

/// Sends one message with its descriptors.
///
/// # Errors
/// What the socket says (`WouldBlock` on a full non-blocking socket: nothing was sent), or
/// `InvalidInput` for more than [`MAX_FDS`] descriptors.
pub fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_encoded(socket.as_fd(), &encode(message)?, fds)
}

/// What does not depend on the message is not made for each kind of it: a shim is small.
fn send_encoded(socket: BorrowedFd<'_>, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if body.len() <= INLINE {
        return send_packet(socket, body, fds);
    }
    let large = sealed_memfd(&body[1..])?;
    let mut all = vec![large.as_fd()];
    all.extend_from_slice(fds);
    send_packet(socket, &[BODY_MEMFD], &all)
}

/// Sends one small message without descriptors by a plain `write`, which more seccomp filters
/// allow than `sendmsg`.
///
/// # Errors
/// As [`send`].
pub fn write<T: Serialize>(socket: impl AsFd, message: &T) -> io::Result<()> {
    write_encoded(socket, &encode(message)?)
}

/// A small message, for [`write_encoded`].
///
/// # Errors
/// Where it cannot be encoded.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    postcard::to_extend(message, vec![BODY_INLINE]).map_err(invalid)
}

/// As [`write()`], for who can do nothing any more but write: it takes no memory.
///
/// # Errors
/// As [`send`].
pub fn write_encoded(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::io::write(&socket, message))?;
    Ok(())
}

/// Receives one message; `None` when the peer has closed its end.
///
/// # Errors
/// What the socket says (`WouldBlock` when there is none yet), or `InvalidData` for a packet that
/// is not a message of this type, or whose descriptors did not all come.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<Received<T>>> {
    match receive_any(socket)? {
        Some(received) if received.lost => Err(larger()),
        other => Ok(other),
    }
}

/// The same for who can do without the descriptors.
///
/// # Errors
/// As [`receive`].
pub fn receive_any<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<Received<T>>> {
    let Some(packet) = receive_encoded(socket.as_fd())? else {
        return Ok(None);
    };
    let Received { message, fds, lost } = packet;
    let message = postcard::from_bytes(message.body()).map_err(invalid)?;
    Ok(Some(Received { message, fds, lost }))
}

/// A message as it came.
enum Encoded {
    /// Behind the byte that says so.
    Inline(Vec<u8>),
    /// In a memfd.
    Large(Vec<u8>),
}

impl Encoded {
    fn body(&self) -> &[u8] {
        match self {
            Self::Inline(packet) => packet.get(1..).unwrap_or_default(),
            Self::Large(body) => body,
        }
    }
}

fn receive_encoded(socket: BorrowedFd<'_>) -> io::Result<Option<Received<Encoded>>> {
    let mut buffer = vec![0u8; waiting(socket)?];
    let Some((len, mut fds, lost)) = receive_packet(socket, &mut buffer)? else {
        return Ok(None);
    };
    buffer.truncate(len);
    let message = match buffer.split_first() {
        Some((&BODY_INLINE, _)) => Encoded::Inline(buffer),
        Some((&BODY_MEMFD, [])) if !fds.is_empty() => Encoded::Large(read_memfd(fds.remove(0))?),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a packet without a body",
            ));
        }
    };
    Ok(Some(Received { message, fds, lost }))
}

fn larger() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a packet larger than agreed")
}

fn send_packet(socket: BorrowedFd<'_>, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let slices = [IoSlice::new(body)];
    loop {
        match rustix::net::sendmsg(socket, &slices, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(|_| ()).map_err(Into::into),
        }
    }
}

/// The length of the next packet, at most one more than what is agreed. Asked for first, so that
/// a shim that gets a few bytes a day never owns the pages of the largest packet.
fn waiting(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    loop {
        match rustix::net::recv(socket, &mut [0u8; 1], flags) {
            // A peer that has gone with packets unread resets once: before what it had said.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Ok((_, length)) => return Ok(length.clamp(1, INLINE + 1)),
            Err(other) => return Err(other.into()),
        }
    }
}

fn receive_packet(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, Vec<OwnedFd>, bool)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            // A peer that was killed with packets unread resets once; to us it has gone.
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(larger());
    }
    // There may be room for one more than are agreed, as the buffer happens to lie.
    let lost = received.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS;
    Ok((received.bytes > 0).then_some((received.bytes, fds, lost)))
}

fn sealed_memfd(body: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(body)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK,
    )?;
    Ok(file.into())
}

/// Reads a memfd that a peer sent. It must be sealed: else its owner could change it under us.
fn read_memfd(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let seals = rustix::fs::fcntl_get_seals(&fd)?;
    if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a memfd without seals",
        ));
    }
    let mut file = std::fs::File::from(fd);
    file.rewind()?;
    let mut body = Vec::new();
    file.take(MAX_MESSAGE).read_to_end(&mut body)?;
    Ok(body)
}

fn invalid(error: postcard::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (a, b) = pair();
        let pipe = rustix::pipe::pipe().unwrap();
        send(&a, &("word".to_owned(), 7u32), &[pipe.1.as_fd()]).unwrap();
        let got: Received<(String, u32)> = receive(&b).unwrap().unwrap();
        assert_eq!(got.message, ("word".to_owned(), 7));
        assert_eq!(got.fds.len(), 1);
        rustix::io::write(&got.fds[0], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&pipe.0, &mut byte).unwrap(), 1);
    }

    #[test]
    fn a_large_message_travels_in_a_memfd() {
        let (a, b) = pair();
        let large = "x".repeat(3 * INLINE);
        let pipe = rustix::pipe::pipe().unwrap();
        send(&a, &large, &[pipe.1.as_fd()]).unwrap();
        let got: Received<String> = receive(&b).unwrap().unwrap();
        assert_eq!(got.message, large);
        assert_eq!(got.fds.len(), 1, "the memfd itself is not the caller's");
    }

    /// The kernel does the same for want of room for descriptors and for want of descriptors.
    #[test]
    fn a_message_that_lost_its_descriptors_is_an_error_but_to_who_can_do_without() {
        let (a, b) = pair();
        let pipe = rustix::pipe::pipe().unwrap();
        let many = [pipe.1.as_fd(); 2 * MAX_FDS];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 * MAX_FDS))];
        let mut send_many = || {
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&many));
            let body = postcard::to_extend(&7u32, vec![BODY_INLINE]).unwrap();
            let slices = [IoSlice::new(&body)];
            rustix::net::sendmsg(&a, &slices, &mut ancillary, SendFlags::empty()).unwrap();
        };
        send_many();
        let refused = receive::<u32>(&b).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        send_many();
        let got = receive_any::<u32>(&b).unwrap().unwrap();
        assert_eq!((got.message, got.lost), (7, true));
        send(&a, &8u32, &[]).unwrap();
        assert!(!receive_any::<u32>(&b).unwrap().unwrap().lost);
    }

    /// As many as are agreed come, and not one more, wherever the buffer for them lies.
    #[test]
    fn one_descriptor_more_than_agreed_is_too_many() {
        let (a, b) = pair();
        let body = postcard::to_extend(&7u32, vec![BODY_INLINE]).unwrap();
        for (count, is_taken) in [(MAX_FDS, true), (MAX_FDS + 1, false)] {
            let many = vec![b.as_fd(); count];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 * MAX_FDS))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&many));
            let slices = [IoSlice::new(&body)];
            rustix::net::sendmsg(&a, &slices, &mut ancillary, SendFlags::empty()).unwrap();
            assert_eq!(receive::<u32>(&b).is_ok(), is_taken, "{count}");
        }
    }

    #[test]
    fn a_closed_peer_is_none_and_garbage_is_an_error() {
        let (a, b) = pair();
        rustix::net::send(&a, b"\xff\xff\xff", SendFlags::empty()).unwrap();
        let garbage = receive::<String>(&b).unwrap_err();
        assert_eq!(garbage.kind(), io::ErrorKind::InvalidData);
        drop(a);
        assert!(receive::<String>(&b).unwrap().is_none());
    }
}
