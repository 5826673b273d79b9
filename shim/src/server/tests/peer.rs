//! A shim on a thread of the test's own, and the daemon's side of its protocol.

use super::super::*;
use crate::api::{Answer, Call, CreateRequest, ExitRecord, Health, NEWEST, Reply, Request, Status};
use crate::fakes::parent::Parent;
use crate::packet;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// A shim on a thread of its own, with a fake parent.
pub struct Running {
    pub dir: TempDir,
    pub thread: JoinHandle<()>,
    pub daemon: Daemon,
}

/// The daemon's side of a connection.
pub struct Daemon {
    pub socket: OwnedFd,
    calls: u64,
    pub events: Vec<Event>,
}

pub fn serve(parent: Parent) -> Running {
    serve_for(parent, LINGER)
}

pub fn serve_for(mut parent: Parent, linger: Duration) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let (ready, bound) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut shim = Shim::new("1234", &mut parent, linger);
        shim.listen(&path).unwrap();
        shim.welcome(theirs).unwrap();
        ready.send(()).unwrap();
        shim.serve();
    });
    bound.recv().unwrap();
    Running {
        dir,
        thread,
        daemon: Daemon::over(ours),
    }
}

pub fn script(script: &str) -> Parent {
    Parent {
        script: script.to_owned(),
        ..Parent::default()
    }
}

impl Running {
    pub fn request(&self) -> CreateRequest {
        CreateRequest {
            id: "1234".to_owned(),
            bundle: self.dir.path().to_owned(),
            log_path: Some(self.dir.path().join("0.log")),
            stdin: false,
            stdin_once: false,
            seccomp_filter: None,
            exit_record: self.dir.path().join("exit.json"),
            bare: None,
        }
    }

    pub fn created(parent: Parent) -> Self {
        let mut shim = serve(parent);
        shim.daemon.hello();
        let request = shim.request();
        shim.daemon.ok(Request::Create(request));
        shim
    }

    pub fn connect(&self) -> Daemon {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .unwrap();
        let address = SocketAddrUnix::new(self.dir.path().join("s")).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        Daemon::over(socket)
    }

    pub fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("0.log")).unwrap();
        text.lines().map(|line| line[31..].to_owned()).collect()
    }

    pub fn record(&self) -> ExitRecord {
        serde_json::from_slice(&std::fs::read(self.dir.path().join("exit.json")).unwrap()).unwrap()
    }

    /// Ends the shim; it must leave nothing.
    pub fn shut(mut self) {
        self.daemon.ok(Request::Shutdown);
        self.thread.join().unwrap();
        assert!(
            !self.dir.path().join("s").exists(),
            "the socket's file is to go"
        );
    }
}

impl Daemon {
    pub fn over(socket: OwnedFd) -> Self {
        // A call that is never answered fails its test instead of hanging it.
        let timeout = Some(Duration::from_secs(20));
        let which = rustix::net::sockopt::Timeout::Recv;
        rustix::net::sockopt::set_socket_timeout(&socket, which, timeout).unwrap();
        Self {
            socket,
            calls: 0,
            events: Vec::new(),
        }
    }

    pub fn send(&mut self, request: Request) -> u64 {
        self.calls += 1;
        packet::send(
            &self.socket,
            &Call {
                id: self.calls,
                request,
            },
            &[],
        )
        .unwrap();
        self.calls
    }

    pub fn next(&mut self) -> (Message, Vec<OwnedFd>) {
        let got = packet::receive::<Message>(&self.socket)
            .unwrap()
            .expect("the shim has gone");
        (got.message, got.fds)
    }

    pub fn call(&mut self, request: Request) -> (Result<Reply, Failure>, Vec<OwnedFd>) {
        let id = self.send(request);
        loop {
            match self.next() {
                (Message::Event(event), _) => self.events.push(event),
                (Message::Answer(Answer { id: of, result }), fds) => {
                    assert_eq!(of, id);
                    return (result, fds);
                }
            }
        }
    }

    pub fn ok(&mut self, request: Request) -> (Reply, Vec<OwnedFd>) {
        let (result, fds) = self.call(request);
        (result.unwrap(), fds)
    }

    pub fn failed(&mut self, request: Request) -> Failure {
        self.call(request).0.unwrap_err()
    }

    pub fn hello(&mut self) {
        assert_eq!(self.greet(9), NEWEST);
    }

    /// As one that speaks this version at most; the one that is agreed on.
    pub fn greet(&mut self, newest: u16) -> u16 {
        let oldest = 1;
        match self.ok(Request::Hello { oldest, newest }).0 {
            Reply::Hello { version, pid } if pid > 0 => version,
            other => panic!("{other:?}"),
        }
    }

    pub fn status(&mut self) -> (Status, Vec<OwnedFd>) {
        match self.ok(Request::Status) {
            (Reply::Status(status), fds) => (status, fds),
            other => panic!("{other:?}"),
        }
    }

    pub fn health(&mut self) -> Health {
        match self.ok(Request::Health).0 {
            Reply::Health(health) => health,
            other => panic!("{other:?}"),
        }
    }

    pub fn event(&mut self) -> Event {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match self.next().0 {
            Message::Event(event) => event,
            other => panic!("{other:?}"),
        }
    }

    pub fn exited(&mut self) -> ExitRecord {
        match self.event().kind {
            EventKind::Exited(record) => record,
            other => panic!("{other:?}"),
        }
    }
}
