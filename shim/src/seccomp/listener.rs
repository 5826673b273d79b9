//! A filter's listener: the descriptor by which somebody outside decides about system calls. It is
//! made in the process that is filtered, fetched from there, and sent to the socket of the bundle with
//! the state of the process.

use crate::api::{Failure, FailureKind};
use crate::bundle::Seccomp;
use crate::failure::At;
use crate::state::Identity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::io::IoSlice;
use std::mem::MaybeUninit;

/// Fetches a descriptor of another process.
///
/// # Errors
/// What the kernel says.
pub fn take(pid: i32, descriptor: i32) -> Result<OwnedFd, Failure> {
    let step = || "fetch the seccomp listener".to_owned();
    let pid = Pid::from_raw(pid).ok_or_else(nobody)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).at(FailureKind::System, step)?;
    pidfd_getfd(&pidfd, descriptor, PidfdGetfdFlags::empty()).at(FailureKind::System, step)
}

/// A process that is none, or a bundle that names no socket.
#[must_use]
pub fn nobody() -> Failure {
    Failure::invalid("fetch the seccomp listener", "nobody has one")
}

impl Seccomp<'_> {
    /// The socket of who waits for notifications.
    #[must_use]
    pub fn listener(&self) -> Option<&str> {
        self.listener_path
            .as_deref()
            .filter(|path| !path.is_empty())
    }

    /// Sends a listener to the socket, with the state of its process.
    ///
    /// # Errors
    /// What the kernel says, with the socket's path.
    pub fn hand_over(
        &self,
        listener: &OwnedFd,
        identity: &Identity<'_>,
        status: &'static str,
        pid: i32,
    ) -> Result<(), Failure> {
        let path = self.listener().ok_or_else(nobody)?;
        let step = || format!("tell {path} of the seccomp listener");
        let metadata = self.listener_metadata.as_deref().unwrap_or("");
        let state = identity.process_state(status, pid, metadata);
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .at(FailureKind::System, step)?;
        SocketAddrUnix::new(path)
            .and_then(|address| connect(&socket, &address))
            .at(FailureKind::System, step)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let fds = [listener.as_fd()];
        beside.push(SendAncillaryMessage::ScmRights(&fds));
        let text = [IoSlice::new(state.as_bytes())];
        let sent = sendmsg(&socket, &text, &mut beside, SendFlags::NOSIGNAL);
        match sent.at(FailureKind::System, step)? {
            sent if sent == state.len() => Ok(()),
            _ => Err(Failure::invalid(
                step(),
                "it does not take all of the state",
            )),
        }
    }
}
