//! One shim, as its daemon speaks with it.

use corten_shim::api::{
    Answer, Call, Failure, Message, NEWEST, OLDEST, Reply, Request, SandboxReply, SandboxRequest,
    Status,
};
use corten_shim::packet;
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair,
};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// A connection.
pub struct Shim {
    socket: OwnedFd,
    calls: u64,
}

impl Shim {
    /// Starts the shim of a container; what it has to say goes to a file.
    pub fn begin(id: &str, socket: &Path, log: File) -> Result<Self, String> {
        let (ours, theirs) = pair()?;
        Command::new(program()?)
            .args(["run", "--id", id, "--socket"])
            .arg(socket)
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("start the shim: {e}"))?;
        Self::greeted(ours)
    }

    /// Connects to one that runs; none where it has gone.
    pub fn find(path: &Path) -> Result<Option<Self>, String> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|e| format!("make a socket: {e}"))?;
        let address = SocketAddrUnix::new(path).map_err(|e| format!("{}: {e}", path.display()))?;
        match connect(&socket, &address) {
            Ok(()) => Self::greeted(socket).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn greeted(socket: OwnedFd) -> Result<Self, String> {
        let mut shim = Self { socket, calls: 0 };
        let (oldest, newest) = (OLDEST, NEWEST);
        shim.call(Request::Hello { oldest, newest })?;
        Ok(shim)
    }

    /// Makes a call; events that come meanwhile are for others.
    pub fn call(&mut self, request: Request) -> Result<(Reply, Vec<OwnedFd>), String> {
        self.calls += 1;
        let id = self.calls;
        packet::send(&self.socket, &Call { id, request }, &[])
            .map_err(|e| format!("ask the shim: {e}"))?;
        loop {
            let received = packet::receive::<Message>(&self.socket);
            let received = received.map_err(|e| format!("hear from the shim: {e}"))?;
            let received = received.ok_or("the shim has gone")?;
            match received.message {
                Message::Answer(Answer { id: of, result }) if of == id => {
                    return Ok((result.map_err(|e: Failure| e.to_string())?, received.fds));
                }
                Message::Answer(_) | Message::Event(_) => {}
            }
        }
    }

    pub fn status(&mut self) -> Result<Status, String> {
        match self.call(Request::Status)?.0 {
            Reply::Status(status) => Ok(status),
            other => Err(format!("the shim answered {other:?}")),
        }
    }
}

/// The mount namespace that containers begin from, as the daemon has it made.
pub fn bare() -> Result<OwnedFd, String> {
    let (ours, theirs) = pair()?;
    let mut child = Command::new(program()?)
        .arg("sandbox")
        .stdin(theirs)
        .spawn()
        .map_err(|e| format!("start the sandbox's program: {e}"))?;
    packet::send(&ours, &SandboxRequest::Bare, &[]).map_err(|e| format!("ask it: {e}"))?;
    let answer = packet::receive::<SandboxReply>(&ours);
    let ended = child.wait();
    ended.map_err(|e| format!("wait for the sandbox's program: {e}"))?;
    let answer = answer.map_err(|e| format!("hear from it: {e}"))?;
    match answer.map(|answer| (answer.message, answer.fds.into_iter().next())) {
        Some((SandboxReply::Bare, Some(bare))) => Ok(bare),
        other => Err(format!("the sandbox's program answered {other:?}")),
    }
}

fn program() -> Result<OsString, String> {
    std::env::var_os("CORTEN_SHIM").ok_or_else(|| "CORTEN_SHIM names no shim".to_owned())
}

fn pair() -> Result<(OwnedFd, OwnedFd), String> {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|e| format!("make a pair of sockets: {e}"))
}
