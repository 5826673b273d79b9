//! ExecSync: a process in the container, its output and its exit code. No runtime binary, no FIFO,
//! no temporary file.

use super::session::Wants;
use super::{Engine, blocking, bundle};
use crate::error::{Context, Error, Kind, Result};
use crate::model::container::Container;
use crate::task::{Exec, ExecEnd, ExecOrder};
use oci_spec::runtime::{Process, Spec};
use rustix::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

/// What stdout and stderr may hold together, in bytes: a gRPC message of 16 MiB, less its own
/// framing, is what the kubelet takes.
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024 - 64 * 1024;
/// The most of a program's name that is shown, in bytes.
const LONGEST_SHOWN: usize = 128;
/// How long a pipe is read after the process ended: a background child may hold it for ever.
const DRAIN: Duration = Duration::from_millis(500);
/// More than the shim's own time-out: it kills, and tells.
const SHIM_TAKES: Duration = Duration::from_secs(10);

/// What a process in a container said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
    /// Its exit code.
    pub code: i32,
}

impl Engine {
    /// Runs a command in a running container to its end. Output beyond the limit of a message is
    /// dropped and counted in the log.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where the container does not run; `DeadlineExceeded` when
    /// `timeout` was over: the process and what it started are gone.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let container = self.running(id)?;
        let shown = program(&command);
        let order = self
            .exec_order(&container, command, Wants::default())
            .await?;
        let order = ExecOrder { timeout, ..order };
        let late = || {
            let limit = timeout.unwrap_or_default();
            let text =
                format!("{shown:?} in container {id} was killed: it took longer than {limit:?}");
            Error::new(Kind::DeadlineExceeded, text)
        };
        let begun = Instant::now();
        let run = async {
            let started = self.ports.tasks.exec(order).await;
            let exec = started.map_err(|e| match timeout {
                Some(limit) if begun.elapsed() >= limit => late(),
                _ => Error::from(e).during(format!("execute {shown:?} in container {id}")),
            })?;
            run_to_end(exec).await
        };
        // Dropping what runs closes the socket, and that kills the process.
        let (end, output) = match timeout {
            Some(limit) => tokio::time::timeout(limit + SHIM_TAKES, run)
                .await
                .map_err(|_| late())??,
            None => run.await?,
        };
        if end.timed_out {
            Err(late())
        } else {
            Ok(output)
        }
    }

    /// What starts a command in a container, with these streams and no time-out.
    pub(super) async fn exec_order(
        &self,
        container: &Container,
        command: Vec<String>,
        wants: Wants,
    ) -> Result<ExecOrder> {
        let (pid, start_time) = (container.pid, container.start_time);
        let places = self.bundle_places(&container.id);
        let read = move || {
            let bundle = bundle::found(places);
            let read = exec_process(&bundle, command, wants.tty);
            read.map(|(process, filter)| (bundle, process, filter))
        };
        let (bundle, process, seccomp_filter) = blocking(read).await?;
        Ok(ExecOrder {
            pid,
            start_time,
            bundle,
            process,
            seccomp_filter,
            stdin: wants.stdin,
            timeout: None,
        })
    }
}

/// The name of a command's program, for errors and the log. Its arguments are nobody's business there:
/// they may be secrets, and megabytes.
pub(super) fn program(command: &[String]) -> String {
    let name = command.first().map_or("", String::as_str);
    name[..name.floor_char_boundary(LONGEST_SHOWN)].to_owned()
}

/// The container's own process with another command: same user, groups, capabilities, environment.
fn exec_process(
    bundle: &Path,
    command: Vec<String>,
    tty: bool,
) -> Result<(String, Option<PathBuf>)> {
    let path = bundle.join("config.json");
    let failed = || format!("read the bundle {}", path.display());
    let spec = Spec::load(&path).context(Kind::Internal, failed)?;
    let mut process: Process = spec
        .process()
        .clone()
        .ok_or_else(|| Error::internal(format!("{} has no process", path.display())))?;
    process
        .set_args(Some(command))
        .set_terminal(Some(tty))
        .set_console_size(None);
    if tty {
        name_terminal(&mut process);
    }
    let text = serde_json::to_string(&process).context(Kind::Internal, failed)?;
    let filter = bundle.join(super::create_container::SECCOMP_LINK);
    // The link, not what it leads to: a filter that has gone must fail the exec, not free it.
    Ok((text, filter.is_symlink().then_some(filter)))
}

/// As a container with a terminal has it: a terminal without a name shows no colours.
fn name_terminal(process: &mut Process) {
    let mut env = process.env().clone().unwrap_or_default();
    if !env.iter().any(|variable| variable.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
        process.set_env(Some(env));
    }
}

async fn run_to_end(exec: Exec) -> Result<(ExecEnd, ExecOutput)> {
    let mut exec = exec;
    let room = Arc::new(AtomicUsize::new(OUTPUT_LIMIT));
    let mut streams = std::mem::take(&mut exec.streams).into_iter();
    let stdout = Stream::read(streams.next(), &room)?;
    let stderr = Stream::read(streams.next(), &room)?;
    let end = exec.wait().await?;
    let deadline = Instant::now() + DRAIN;
    let output = ExecOutput {
        stdout: stdout.finish(deadline).await,
        stderr: stderr.finish(deadline).await,
        code: end.code,
    };
    Ok((end, output))
}

/// A pipe that is being read, until this is dropped.
struct Stream {
    bytes: Arc<std::sync::Mutex<Vec<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Stream {
    fn read(pipe: Option<OwnedFd>, room: &Arc<AtomicUsize>) -> Result<Self> {
        let pipe = pipe.ok_or_else(|| Error::internal("the shim gave too few streams"))?;
        let pipe = Receiver::from_owned_fd(pipe)
            .context(Kind::Internal, || "watch the process's output".to_owned())?;
        let bytes = Arc::default();
        let reader = tokio::spawn(fill(pipe, Arc::clone(&bytes), Arc::clone(room)));
        Ok(Self { bytes, reader })
    }

    /// What was read by the end of the pipe, or by the deadline.
    async fn finish(mut self, deadline: Instant) -> Vec<u8> {
        // Whether it came to the end or not: what is there is the answer.
        let _ = tokio::time::timeout_at(deadline, &mut self.reader).await;
        std::mem::take(
            &mut self
                .bytes
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

async fn fill(mut pipe: Receiver, bytes: Arc<std::sync::Mutex<Vec<u8>>>, room: Arc<AtomicUsize>) {
    let mut buffer = vec![0u8; 16 * 1024];
    let mut dropped = 0;
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let take = |room: usize| Some(room - room.min(read));
        let before = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let kept = before.unwrap_or_default().min(read);
        dropped += read - kept;
        let mut bytes = bytes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        bytes.extend_from_slice(&buffer[..kept]);
    }
    if dropped > 0 {
        tracing::warn!(
            dropped,
            limit = OUTPUT_LIMIT,
            "output of an exec was cut to what a message holds"
        );
    }
}
