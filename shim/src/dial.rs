//! `corten-shim dial`: connects to ports of a pod, from inside its network namespace.
//!
//! ```text
//! daemon                              dial
//!   DialRequest + the namespace ────▶ joins it
//!   DialRequest { id, port } ───────▶ 127.0.0.1, then ::1
//!   ◀─── DialReply { id } + socket    connected: the bytes are the daemon's affair
//!   DialRequest + the node's ───────▶ in reserve again, until the next pod's
//! ```
//! Invariant: no connection waits for another, none is kept here, nothing of a pod is left in reserve,
//! and the process ends with its client.

use crate::api::{DialReply, DialRequest, DialWish, Failure, FailureKind};
use crate::failure::At;
use crate::packet::{self, Received};
use crate::title;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// A connection that is being made.
struct Dial {
    request: DialRequest,
    port: u16,
    socket: OwnedFd,
    /// Why there is none to 127.0.0.1, where that was tried: what a person wants to know, for most
    /// listen there or nowhere.
    refused: Option<Errno>,
}

/// Serves the requests of a socket until its other end is closed.
///
/// # Errors
/// What keeps it from hearing them.
pub fn run(client: &OwnedFd) -> Result<(), Failure> {
    let step = || "hear what to dial".to_owned();
    let mut dials = Vec::new();
    loop {
        let called = wait(client, &mut dials).at(FailureKind::System, step)?;
        if called {
            match packet::receive(client).at(FailureKind::Invalid, step)? {
                Some(received) => take(client, &mut dials, &received),
                None => return Ok(()),
            }
        }
    }
}

/// Waits until something is to be done, and brings the connections forward; whether the client has
/// something to say.
fn wait(client: &OwnedFd, dials: &mut Vec<Dial>) -> Result<bool, Errno> {
    let sockets = dials
        .iter()
        .map(|dial| PollFd::new(&dial.socket, PollFlags::OUT));
    let mut fds: Vec<_> = sockets.collect();
    fds.push(PollFd::new(client, PollFlags::IN));
    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    let mut ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let called = ready.pop();
    for index in (0..ready.len()).rev() {
        if ready[index] {
            let dial = dials.swap_remove(index);
            dials.extend(settle(client, &dial));
        }
    }
    Ok(called == Some(true))
}

fn take(client: &OwnedFd, dials: &mut Vec<Dial>, received: &Received<DialRequest>) {
    let request = received.message;
    // Nothing depends on a title but who looks at the list of processes.
    match request.wish {
        DialWish::Connect(port) => {
            dials.extend(begin(client, request, (port, None)));
            let _ = title::take_up();
        }
        DialWish::Join => {
            answer(client, &request, join(&received.fds).map(|()| None));
            let _ = title::take_up();
        }
        DialWish::Rest => {
            dials.clear();
            let _ = title::put_back();
            answer(client, &request, join(&received.fds).map(|()| None));
        }
    }
}

fn join(namespace: &[OwnedFd]) -> Result<(), Errno> {
    let namespace = namespace.first().ok_or(Errno::BADF)?;
    move_into_thread_name_spaces(namespace.as_fd(), ThreadNameSpaceType::NETWORK)
}

/// A connection is made, or not: then the next address is tried.
fn settle(client: &OwnedFd, dial: &Dial) -> Option<Dial> {
    match sockopt::socket_error(&dial.socket).and_then(|errno| errno) {
        Ok(()) => answer(client, &dial.request, Ok(Some(&dial.socket))),
        Err(errno) => match dial.refused {
            None => return begin(client, dial.request, (dial.port, Some(errno))),
            Some(first) => answer(client, &dial.request, Err(first)),
        },
    }
    None
}

/// Begins a connection to a port; `refused`: why 127.0.0.1 was no good.
fn begin(
    client: &OwnedFd,
    request: DialRequest,
    (port, refused): (u16, Option<Errno>),
) -> Option<Dial> {
    let address: SocketAddr = match refused {
        None => (Ipv4Addr::LOCALHOST, port).into(),
        Some(_) => (Ipv6Addr::LOCALHOST, port).into(),
    };
    match (connect(&address), refused) {
        (Ok(socket), _) => {
            return Some(Dial {
                request,
                port,
                socket,
                refused,
            });
        }
        (Err(errno), None) => return begin(client, request, (port, Some(errno))),
        (Err(_), Some(first)) => answer(client, &request, Err(first)),
    }
    None
}

/// A socket that is writable once it is known whether it is connected.
fn connect(address: &SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn answer(client: &OwnedFd, request: &DialRequest, made: Result<Option<&OwnedFd>, Errno>) {
    let reply = DialReply {
        id: request.id,
        errno: made.err().map_or(0, Errno::raw_os_error),
    };
    let fds: Vec<_> = made.ok().flatten().map(AsFd::as_fd).into_iter().collect();
    // A client that has gone is noticed when it is listened to.
    let _ = packet::send(client, &reply, &fds);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

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

    fn ask(client: &OwnedFd, id: u64, port: u16) {
        let wish = DialWish::Connect(port);
        packet::send(client, &DialRequest { id, wish }, &[]).unwrap();
    }

    fn heard(client: &OwnedFd) -> Received<DialReply> {
        packet::receive(client).unwrap().unwrap()
    }

    #[test]
    fn both_families_are_tried_and_a_refusal_is_told() {
        let (client, thread) = dialer();
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        for (id, listener) in [(1, &four), (2, &six)] {
            ask(&client, id, listener.local_addr().unwrap().port());
            let mut reply = heard(&client);
            assert_eq!((reply.message.id, reply.message.errno), (id, 0));
            let stream = std::net::TcpStream::from(reply.fds.remove(0));
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(stream.local_addr().unwrap(), peer);
        }
        let port = four.local_addr().unwrap().port();
        drop(four);
        ask(&client, 3, port);
        let reply = heard(&client);
        assert_eq!(reply.message.id, 3);
        assert_eq!(reply.message.errno, libc::ECONNREFUSED);
        assert!(reply.fds.is_empty());
        drop(client);
        thread.join().unwrap().unwrap();
    }

    /// A listener that takes no more lets who connects wait.
    #[test]
    fn one_that_waits_holds_up_no_other() {
        let (client, thread) = dialer();
        let full = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        rustix::net::bind(&full, &any).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&full).unwrap()).unwrap();
        let mut taken = Vec::new();
        for id in 1..=8 {
            ask(&client, id, address.port());
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        ask(&client, 100, listener.local_addr().unwrap().port());
        loop {
            let reply = heard(&client);
            assert_eq!(reply.message.errno, 0);
            if reply.message.id == 100 {
                break;
            }
            taken.push(reply);
        }
        assert!(taken.len() < 8, "the listener was not full");
        drop(client);
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        let (client, thread) = dialer();
        let file = std::fs::File::open("/dev/null").unwrap();
        let wish = DialWish::Join;
        let request = DialRequest { id: 9, wish };
        packet::send(&client, &request, &[file.as_fd()]).unwrap();
        let reply = heard(&client).message;
        assert_eq!((reply.id, reply.errno), (9, libc::EINVAL));
        packet::send(&client, &request, &[]).unwrap();
        assert_eq!(heard(&client).message.errno, libc::EBADF);
        drop(client);
        thread.join().unwrap().unwrap();
    }
}
