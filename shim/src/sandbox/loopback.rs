//! Brings `lo` up by one rtnetlink message, whose socket then serves the daemon: it keeps talking
//! about the network namespace that it was opened in, wherever it is held.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `RTM_NEWLINK` of `linux/rtnetlink.h`.
const NEW_LINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK` of `linux/netlink.h`.
const REQUEST_AND_ACK: u16 = 1 | 4;
/// `NLMSG_ERROR` of `linux/netlink.h`; an acknowledgement is one with errno 0.
const ERROR: u16 = 2;
/// `lo` is the first interface of each network namespace.
const LOOPBACK: i32 = 1;
/// `IFF_UP` of `linux/if.h`.
const UP: u32 = 1;

/// Brings `lo` up in this process' network namespace; the socket that it took.
///
/// # Errors
/// What the kernel says.
pub fn up() -> Result<OwnedFd, Failure> {
    let step = || "bring lo up".to_owned();
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // NETLINK_ROUTE is the family's protocol 0
    )
    .at(FailureKind::System, step)?;
    rustix::net::send(&socket, &request(), SendFlags::empty()).at(FailureKind::System, step)?;
    let mut answer = [0u8; 256];
    let (got, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())
        .at(FailureKind::System, step)?;
    acknowledged(&answer[..got]).at(FailureKind::System, step)?;
    Ok(socket)
}

/// `struct nlmsghdr` and `struct ifinfomsg`.
fn request() -> [u8; 32] {
    let mut message = [0u8; 32];
    message[0..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&NEW_LINK.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    message[8..12].copy_from_slice(&1u32.to_ne_bytes()); // sequence number
    message[20..24].copy_from_slice(&LOOPBACK.to_ne_bytes());
    message[24..28].copy_from_slice(&UP.to_ne_bytes()); // flags
    message[28..32].copy_from_slice(&UP.to_ne_bytes()); // which of them change
    message
}

/// `struct nlmsgerr` behind a header of 16 bytes: a negative errno.
fn acknowledged(answer: &[u8]) -> Result<(), Errno> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok());
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok());
    match (kind.map(u16::from_ne_bytes), error.map(i32::from_ne_bytes)) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(errno)) => Err(Errno::from_raw_os_error(-errno)),
        _ => Err(Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, errno: i32) -> Vec<u8> {
        let mut answer = vec![0u8; 36];
        answer[4..6].copy_from_slice(&kind.to_ne_bytes());
        answer[16..20].copy_from_slice(&errno.to_ne_bytes());
        answer
    }

    #[test]
    fn only_an_error_of_zero_is_an_acknowledgement() {
        assert_eq!(acknowledged(&answer(ERROR, 0)), Ok(()));
        assert_eq!(acknowledged(&answer(ERROR, -libc::EPERM)), Err(Errno::PERM));
        assert_eq!(acknowledged(&answer(NEW_LINK, 0)), Err(Errno::BADMSG));
        assert_eq!(acknowledged(&[0; 5]), Err(Errno::BADMSG));
    }
}
