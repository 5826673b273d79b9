//! `corten-shim dial`, run as the daemon runs it. Needs root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

use corten_shim::api::{
    DialReply, DialRequest, DialWish, IdMap, IdMaps, PinRequest, Pins, SandboxReply, SandboxRequest,
};
use corten_shim::packet;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const SHIM: &str = env!("CARGO_BIN_EXE_corten-shim");

fn start(verb: &str) -> (OwnedFd, Child) {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let mut command = Command::new(SHIM);
    let child = command.arg(verb).stdin(Stdio::from(theirs)).spawn();
    (ours, child.unwrap())
}

fn ask(request: &SandboxRequest) -> SandboxReply {
    let (socket, mut child) = start("sandbox");
    packet::send(&socket, request, &[]).unwrap();
    let got = packet::receive(&socket).unwrap().expect("an answer");
    assert!(child.wait().unwrap().success());
    got.message
}

/// A network of its own, until it is dropped.
struct Network {
    pins: Pins,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Network {
    fn new(ids: Option<IdMaps>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net");
        let pins = Pins {
            network: Some(path.clone()),
            user: ids.is_some().then(|| dir.path().join("user")),
            ..Pins::default()
        };
        let pinned = ask(&SandboxRequest::Pin(PinRequest {
            pins: pins.clone(),
            ids,
            hostname: String::new(),
            sysctls: Vec::new(),
            shm_size: 0,
            cgroup: None,
            scoped: false,
        }));
        assert_eq!(pinned, SandboxReply::Pinned { holder: None });
        let _dir = dir;
        Self { pins, path, _dir }
    }

    /// Listens inside, at the same port of both addresses or of the second alone.
    fn listen<A: std::net::ToSocketAddrs + Send>(&self, address: A) -> TcpListener {
        let inside = || {
            let namespace = File::open(&self.path).unwrap();
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            TcpListener::bind(address).unwrap()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let gone = ask(&SandboxRequest::Unpin(self.pins.clone()));
        assert!(std::thread::panicking() || gone == SandboxReply::Unpinned);
    }
}

/// A dialer and its client's end.
struct Dialer {
    socket: OwnedFd,
    child: Child,
}

impl Dialer {
    fn into(network: &Network) -> Self {
        let (socket, child) = start("dial");
        let dialer = Self { socket, child };
        let namespace = File::open(&network.path).unwrap();
        let wish = DialWish::Join;
        let join = DialRequest { id: 1, wish };
        packet::send(&dialer.socket, &join, &[namespace.as_fd()]).unwrap();
        assert_eq!(dialer.heard().0, DialReply { id: 1, errno: 0 });
        dialer
    }

    /// As its client does: 127.0.0.1, then ::1; of two failures the first.
    fn connect(&self, port: u16) -> Result<TcpStream, Errno> {
        let wish = DialWish::Sockets;
        packet::send(&self.socket, &DialRequest { id: 2, wish }, &[]).unwrap();
        let (reply, sockets) = self.heard();
        assert_eq!((reply, sockets.len()), (DialReply { id: 2, errno: 0 }, 2));
        let addresses = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            (Ipv6Addr::LOCALHOST, port).into(),
        ];
        let tried = sockets.into_iter().zip(addresses).map(|(socket, address)| {
            let stream = TcpStream::from(socket);
            stream.set_nonblocking(false).unwrap();
            rustix::net::connect(&stream, &address).map(|()| stream)
        });
        tried
            .reduce(|first, second| first.or_else(|reason| second.map_err(|_| reason)))
            .unwrap()
    }

    fn heard(&self) -> (DialReply, Vec<OwnedFd>) {
        let got = packet::receive::<DialReply>(&self.socket).unwrap().unwrap();
        (got.message, got.fds)
    }

    fn gone(mut self) {
        drop(self.socket);
        assert!(self.child.wait().unwrap().success());
    }
}

fn says_hello(dialer: &Dialer, listener: &TcpListener) {
    let port = listener.local_addr().unwrap().port();
    let mut stream = dialer.connect(port).unwrap();
    let mut accepted = listener.accept().unwrap().0;
    stream.write_all(b"hello").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    accepted.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    accepted.write_all(b"you").unwrap();
    drop(accepted);
    said.clear();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "you", "the other way is still open");
}

fn both_ways(network: &Network) {
    let dialer = Dialer::into(network);
    says_hello(&dialer, &network.listen((Ipv4Addr::LOCALHOST, 4711)));
    says_hello(&dialer, &network.listen((Ipv6Addr::LOCALHOST, 4712)));
    assert_eq!(dialer.connect(4713).unwrap_err(), Errno::CONNREFUSED);
    dialer.gone();
}

#[test]
#[ignore = "needs root"]
fn root_a_dialer_reaches_what_listens_in_its_network_alone() {
    let network = Network::new(None);
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dialer = Dialer::into(&network);
    let port = outside.local_addr().unwrap().port();
    assert_eq!(dialer.connect(port).unwrap_err(), Errno::CONNREFUSED);
    dialer.gone();
    both_ways(&network);
}

/// What waits for its next session is in no pod's network, with nothing that was begun there.
#[test]
#[ignore = "needs root"]
fn root_a_dialer_at_rest_has_left_its_network() {
    let network = Network::new(None);
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dialer = Dialer::into(&network);
    let home = File::open("/proc/self/ns/net").unwrap();
    let wish = DialWish::Rest;
    let rest = DialRequest { id: 2, wish };
    packet::send(&dialer.socket, &rest, &[home.as_fd()]).unwrap();
    assert_eq!(dialer.heard().0, DialReply { id: 2, errno: 0 });
    says_hello(&dialer, &outside);
    dialer.gone();
}

#[test]
#[ignore = "needs root"]
fn root_a_dialer_reaches_a_network_that_another_user_namespace_owns() {
    let map = |outside| IdMap {
        inside: 0,
        outside,
        length: 65_536,
    };
    let ids = IdMaps {
        uids: vec![map(100_000)],
        gids: vec![map(100_000)],
    };
    both_ways(&Network::new(Some(ids)));
}

/// As a browser does, and a client that gives up.
#[test]
#[ignore = "needs root"]
fn root_many_are_asked_for_at_once_and_a_client_that_goes_ends_it() {
    let network = Network::new(None);
    let listener = network.listen((Ipv4Addr::LOCALHOST, 4711));
    let dialer = Dialer::into(&network);
    for id in 100..200 {
        let wish = DialWish::Sockets;
        packet::send(&dialer.socket, &DialRequest { id, wish }, &[]).unwrap();
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4711));
    for id in 100..200 {
        let (reply, sockets) = dialer.heard();
        assert_eq!(reply, DialReply { id, errno: 0 });
        // It does not block: what listens takes it later.
        let begun = rustix::net::connect(&sockets[0], &address);
        assert!(
            matches!(begun, Ok(()) | Err(Errno::INPROGRESS)),
            "{begun:?}"
        );
        listener.accept().unwrap();
    }
    dialer.gone();
}
