//! `corten-shim dial`: makes sockets in a pod's network namespace, which somebody else connects.
//!
//! ```text
//! daemon                              dial
//!   DialRequest + the namespace ────▶ joins it
//!   ◀── DialReply { id } + sockets    in that network for as long as they live
//!   connects them: 127.0.0.1, ::1
//!   DialRequest + the node's ───────▶ in reserve again, until the next pod's
//! ```
//! Which network a socket belongs to is settled when it is made. So nobody waits for this process
//! between a client's wish and the pod's answer but for the first one of a session.
//!
//! Invariant: nothing here waits for a pod, none of a pod's things is left in reserve, and the process
//! ends with its client.

use crate::api::{DialReply, DialRequest, DialWish, Failure, FailureKind};
use crate::failure::At;
use crate::packet::{self, Received};
use crate::title;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::io;

/// After a request the next one comes at once, or not soon. The title is put right in between: it
/// takes as long as all else.
const QUIET: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// What the title is to say, where it does not yet.
type Title = Option<fn() -> io::Result<()>>;

/// Serves the requests of a socket until its other end is closed.
///
/// # Errors
/// What keeps it from hearing them.
pub fn run(client: &OwnedFd) -> Result<(), Failure> {
    let step = || "hear what to dial".to_owned();
    let mut title: Title = None;
    loop {
        if !is_called(client, title.as_ref().map(|_| &QUIET)).at(FailureKind::System, step)? {
            // Nothing depends on a title but who looks at the list of processes.
            let _ = title.take().map(|change| change());
            continue;
        }
        match packet::receive(client).at(FailureKind::Invalid, step)? {
            Some(received) => title = Some(take(client, &received)),
            None => return Ok(()),
        }
    }
}

/// Waits for the client; whether it has something to say, or has gone.
fn is_called(client: &OwnedFd, patience: Option<&Timespec>) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(client, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, patience)).map(|ready| ready > 0)
}

fn take(client: &OwnedFd, received: &Received<DialRequest>) -> fn() -> io::Result<()> {
    let made = match received.message.wish {
        DialWish::Join => join(&received.fds).and_then(|()| sockets()),
        DialWish::Sockets => sockets(),
        DialWish::Rest => join(&received.fds).map(|()| Vec::new()),
    };
    answer(client, received.message.id, made);
    match received.message.wish {
        DialWish::Join | DialWish::Sockets => title::take_up,
        DialWish::Rest => title::put_back,
    }
}

fn join(namespace: &[OwnedFd]) -> Result<(), Errno> {
    let namespace = namespace.first().ok_or(Errno::BADF)?;
    move_into_thread_name_spaces(namespace.as_fd(), ThreadNameSpaceType::NETWORK)
}

/// One of each family that the node has.
fn sockets() -> Result<Vec<OwnedFd>, Errno> {
    let made = [AddressFamily::INET, AddressFamily::INET6].map(|family| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(family, SocketType::STREAM, flags, None)
    });
    made.into_iter()
        .filter(|socket| !matches!(socket, Err(Errno::AFNOSUPPORT)))
        .collect()
}

fn answer(client: &OwnedFd, id: u64, made: Result<Vec<OwnedFd>, Errno>) {
    let (errno, sockets) = match made {
        Ok(sockets) => (0, sockets),
        Err(errno) => (errno.raw_os_error(), Vec::new()),
    };
    let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    // A client that has gone is noticed when it is listened to.
    let _ = packet::send(client, &DialReply { id, errno }, &fds);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::socket_domain;

    /// A dialer on a thread of the test's own, and its client's end.
    fn dialer() -> (OwnedFd, std::thread::JoinHandle<Result<(), Failure>>) {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        (ours, std::thread::spawn(move || run(&theirs)))
    }

    fn ask(client: &OwnedFd, id: u64, wish: DialWish, fds: &[&OwnedFd]) -> Received<DialReply> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        packet::send(client, &DialRequest { id, wish }, &fds).unwrap();
        packet::receive(client).unwrap().unwrap()
    }

    #[test]
    fn a_socket_of_each_family_comes_with_each_answer() {
        let (client, thread) = dialer();
        for id in [7, 8] {
            let reply = ask(&client, id, DialWish::Sockets, &[]);
            assert_eq!(reply.message, DialReply { id, errno: 0 });
            let families: Vec<_> = reply
                .fds
                .iter()
                .map(|s| socket_domain(s).unwrap())
                .collect();
            assert_eq!(families, [AddressFamily::INET, AddressFamily::INET6]);
            let flags = rustix::fs::fcntl_getfl(&reply.fds[0]).unwrap();
            assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        }
        drop(client);
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        let (client, thread) = dialer();
        let file = std::fs::File::open("/dev/null").unwrap().into();
        for (fds, errno) in [(&[&file] as &[_], libc::EINVAL), (&[], libc::EBADF)] {
            let reply = ask(&client, 9, DialWish::Join, fds);
            assert_eq!(reply.message, DialReply { id: 9, errno });
            assert!(reply.fds.is_empty());
        }
        drop(client);
        thread.join().unwrap().unwrap();
    }
}
