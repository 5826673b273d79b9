//! A process that joins a container, as the daemon starts it.

use super::{pair, shim, wait};
use corten_shim::api::{ExecControl, ExecReply, ExecRequest, Failure};
use corten_shim::packet;
use rustix::fd::{AsFd, OwnedFd};
use std::io::Read;
use std::process::{Child, Stdio};

/// A process inside a container, and the daemon's side of it.
pub struct Exec {
    shim: Child,
    /// Closed, the process ends.
    pub socket: Option<OwnedFd>,
    /// The daemon's ends of its stdio.
    pub fds: Vec<OwnedFd>,
    /// Its pid, or why there is none.
    pub started: Result<i32, Failure>,
}

impl Exec {
    /// Starts it.
    pub fn start(request: &ExecRequest, init: &OwnedFd) -> Self {
        let (ours, theirs) = pair();
        let shim = shim()
            .arg("exec")
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        packet::send(&ours, request, &[init.as_fd()]).unwrap();
        wait(&ours);
        let received = packet::receive::<ExecReply>(&ours)
            .unwrap()
            .expect("the exec lives");
        let started = match received.message {
            ExecReply::Started { pid } => Ok(pid),
            ExecReply::Failed(failure) => Err(failure),
            other => panic!("{other:?}"),
        };
        Self {
            shim,
            socket: Some(ours),
            fds: received.fds,
            started,
        }
    }

    /// Says something to it.
    pub fn tell(&self, control: &ExecControl) {
        packet::send(self.socket.as_ref().unwrap(), control, &[]).unwrap();
    }

    /// Waits for its end: the code, and whether its time was up.
    pub fn exited(&mut self) -> (i32, bool) {
        let socket = self.socket.as_ref().unwrap();
        wait(socket);
        match packet::receive::<ExecReply>(socket)
            .unwrap()
            .expect("the exec lives")
            .message
        {
            ExecReply::Exited { code, timed_out } => (code, timed_out),
            other => panic!("{other:?}"),
        }
    }

    /// Reads its stdout, or its terminal, to the end.
    pub fn output(&mut self) -> String {
        let at = if self.fds.len() == 3 { 1 } else { 0 };
        let mut file = std::fs::File::from(self.fds[at].try_clone().unwrap());
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        // A terminal whose last user has gone answers EIO.
        while let Ok(length @ 1..) = file.read(&mut buffer) {
            all.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8(all).unwrap()
    }

    /// Kills the shim of the exec, as the kernel may for want of memory.
    pub fn kill_shim(&mut self) {
        self.shim.kill().unwrap();
        self.shim.wait().unwrap();
    }

    /// Waits until the shim of the exec has gone.
    pub fn gone(mut self) {
        self.socket = None;
        self.shim.wait().unwrap();
    }
}
