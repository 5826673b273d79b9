//! One end of a `SEQPACKET` socket that the event loop watches, carrying `corten_shim::packet`s.
//!
//! The event loop knows it as a [`UnixStream`], which owns and watches any UNIX socket safely;
//! nothing here uses it as a stream of bytes.

use corten_shim::packet::{self, Received};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use std::path::Path;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// A socket of packets.
#[derive(Debug)]
pub struct PacketSocket(UnixStream);

impl PacketSocket {
    /// A connected pair: ours, and a blocking end to be handed to a child.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self::watch(ours)?, theirs))
    }

    /// Connects to a shim's own socket.
    pub fn connect(path: &Path) -> io::Result<Self> {
        // A shim whose queue is full would hold up the event loop.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::watch(socket)
    }

    fn watch(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(UnixStream::from_std(socket.into())?))
    }

    /// Sends one message, when there is room for it.
    pub async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = || packet::send(self.0.as_fd(), message, fds);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// Receives the next message; `None` when the other end was closed.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Received<T>>> {
        self.0
            .async_io(Interest::READABLE, || packet::receive(self.0.as_fd()))
            .await
    }

    /// The same, also where this process can have no more descriptors: they are lost then.
    pub async fn receive_any<T: DeserializeOwned>(&self) -> io::Result<Option<Received<T>>> {
        self.0
            .async_io(Interest::READABLE, || packet::receive_any(self.0.as_fd()))
            .await
    }
}
