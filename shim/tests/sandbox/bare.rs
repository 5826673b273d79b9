//! The mount namespace that containers begin in, as a daemon has it made.

use corten_shim::api::{SandboxReply, SandboxRequest};
use corten_shim::packet;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub fn make(shim: &Path) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let mut child = Command::new(shim)
        .arg("sandbox")
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    packet::send(&ours, &SandboxRequest::Bare, &[]).unwrap();
    let answer = packet::receive::<SandboxReply>(&ours).unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(answer.message, SandboxReply::Bare);
    answer.fds.into_iter().next().unwrap()
}

/// What names it for as long as it is held.
pub fn path(bare: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), bare.as_raw_fd()).into()
}
