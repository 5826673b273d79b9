//! A process in a container, by `corten-shim exec`: no runtime binary, no files.

use super::process::{self, Kill, Spawned};
use super::socket::PacketSocket;
use super::spare::{Starter, Verb};
use super::{ExecOrder, TaskError};
use corten_shim::api::{ExecControl, ExecReply, ExecRequest};
use rustix::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// What such a helper is called.
pub const VERB: &str = "exec";
/// What the shim waits for the ends of all that the process has started.
pub const LAST_RITES: Duration = Duration::from_secs(15);

/// A process that runs in a container. Dropping it kills the process and all that it started.
pub struct Exec {
    /// The process id as the host sees it.
    pub pid: i32,
    /// The descriptors: stdin where it was asked for, stdout, stderr; with a terminal its master.
    pub streams: Vec<OwnedFd>,
    socket: PacketSocket,
    _shim: Option<Shim>,
}

/// The program that stands beside the process. Dropped, it is given time to end the process, and is
/// killed where it hangs itself, as at a file of the container's that nobody serves.
struct Shim(Option<Kill>);

impl Drop for Shim {
    fn drop(&mut self) {
        if let Some(kill) = self.0.take() {
            kill.kill_after(LAST_RITES);
        }
    }
}

/// How such a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecEnd {
    /// The exit code; 128 + the signal's number where a signal ended it.
    pub code: i32,
    /// Its time was up.
    pub timed_out: bool,
}

impl Exec {
    /// Over a socket at which the process's end will be told.
    #[cfg(test)]
    pub(super) fn over(socket: PacketSocket, pid: i32, streams: Vec<OwnedFd>) -> Self {
        Self {
            pid,
            streams,
            socket,
            _shim: None,
        }
    }

    /// Sets the size of its terminal, in columns and rows; one without a terminal has none to set.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), TaskError> {
        let verb = "set the size of the process's terminal";
        let size = ExecControl::Resize { width, height };
        let sent = self.socket.send(&size, &[]).await;
        sent.map_err(|source| TaskError::Socket { verb, source })
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Where nobody saw it.
    pub async fn wait(&self) -> Result<ExecEnd, TaskError> {
        let verb = "wait for the process";
        loop {
            match next(&self.socket, verb).await? {
                (ExecReply::Exited { code, timed_out }, _) => {
                    return Ok(ExecEnd { code, timed_out });
                }
                (ExecReply::Failed(failure), _) => {
                    return Err(TaskError::Refused { verb, failure });
                }
                (ExecReply::Started { .. }, _) => {}
            }
        }
    }
}

/// Starts it.
pub async fn start(starter: &Arc<Starter>, order: ExecOrder) -> Result<Exec, TaskError> {
    let verb = "start a process in the container";
    let failed = |source| TaskError::Socket { verb, source };
    let container = process::open(order.pid, order.start_time)
        .map_err(failed)?
        .ok_or(TaskError::Ended { verb })?;
    let Spawned { socket, kill } = starter.take(Verb::Exec)?;
    let shim = Shim(Some(kill));
    let request = ExecRequest {
        pid: order.pid,
        bundle: order.bundle,
        process: order.process,
        seccomp_filter: order.seccomp_filter,
        stdin: order.stdin,
        timeout_ms: order
            .timeout
            .map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
    };
    socket
        .send(&request, &[container.as_fd()])
        .await
        .map_err(failed)?;
    let answer = next(&socket, verb).await;
    starter.fill(Verb::Exec);
    match answer? {
        (ExecReply::Started { pid }, streams) => Ok(Exec {
            pid,
            streams,
            socket,
            _shim: Some(shim),
        }),
        (ExecReply::Failed(failure), _) => Err(TaskError::Refused { verb, failure }),
        (ExecReply::Exited { .. }, _) => Err(TaskError::Protocol { verb }),
    }
}

async fn next(
    socket: &PacketSocket,
    verb: &'static str,
) -> Result<(ExecReply, Vec<OwnedFd>), TaskError> {
    let received = socket
        .receive()
        .await
        .map_err(|source| TaskError::Socket { verb, source })?;
    received
        .map(|r| (r.message, r.fds))
        .ok_or(TaskError::Gone { verb })
}
