//! Containers as processes: everything that `corten-shim` does for the daemon.
//!
//! [`Tasks`] makes namespaces, containers and execs; a [`Task`] is one container's shim. Ends and
//! other news arrive on the channel that the adapter was made with: the one flow that goes up.
//!
//! Invariant: no call here waits for a container's own progress. Stopping is a signal, and the end
//! is an event.

pub mod apparmor;
mod client;
mod dial;
mod error;
mod exec;
#[cfg(test)]
pub mod fakes;
mod process;
mod program;
mod sandbox;
pub mod seccomp;
mod shim;
mod socket;
mod spare;
mod strays;

pub use dial::Dialer;
pub use error::TaskError;
pub use exec::{Exec, ExecEnd};
pub use program::Program;
pub use sandbox::probe as probe_user_namespaces;
pub use shim::ShimTasks;

use crate::id::{ContainerId, SandboxId};
use crate::model::container::{Exit, ResolvedUser};
use crate::model::sandbox::{Namespaces, Sandbox};
use async_trait::async_trait;
use corten_shim::api;
use rustix::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Makes what runs.
#[async_trait]
pub trait Tasks: Send + Sync {
    /// `Ok` when containers can be made, else why not and what to do about it.
    ///
    /// # Errors
    /// The reason.
    fn ready(&self) -> Result<(), String>;

    /// Makes and pins the namespaces that the sandbox's record names, and tells their holder.
    ///
    /// # Errors
    /// What the shim could not do; nothing is left of it.
    async fn pin(&self, sandbox: &Sandbox) -> Result<Option<(i32, u64)>, TaskError>;

    /// Ends the helpers that a killed daemon has left: at a start, before what is half made is taken
    /// away. Those that make or end namespaces are waited for.
    async fn end_strays(&self);

    /// Takes away what [`Tasks::pin`] made, also when that was only half done.
    ///
    /// # Errors
    /// What could not be taken away.
    async fn unpin(&self, namespaces: &Namespaces) -> Result<(), TaskError>;

    /// The pod's network namespace is pinned; also true for one that has none of its own.
    fn is_pinned(&self, namespaces: &Namespaces) -> bool;

    /// Tells in the news when the holder of a sandbox, a pid and its start time,
    /// ends; false where it has ended already.
    fn watch_holder(&self, sandbox: &SandboxId, holder: (i32, u64)) -> bool;

    /// Finds or starts the shim of a container whose record is saved. It begins with the cgroup, while the
    /// bundle is written; where no create follows it takes that away again.
    ///
    /// # Errors
    /// Where it cannot be started, does not answer, or cannot begin.
    async fn launch(&self, id: &ContainerId, cgroup: &str) -> Result<Box<dyn Vacancy>, TaskError>;

    /// Finds the shim of a container again; `None` when it has gone.
    ///
    /// # Errors
    /// Where it is there and cannot be spoken with.
    async fn reconnect(&self, id: &ContainerId) -> Result<Option<Launched>, TaskError>;

    /// Sends a signal to a container's init, a pid and its start time, past a shim that does not
    /// answer. One that has ended is no error.
    ///
    /// # Errors
    /// Where only the shim could send it, or the kernel refuses.
    fn signal_init(&self, init: (i32, u64), signal: i32) -> Result<(), TaskError>;

    /// Waits until a container's init, a pid and its start time, has ended.
    ///
    /// # Errors
    /// Where it cannot be watched.
    async fn init_ended(&self, init: (i32, u64)) -> Result<(), TaskError>;

    /// Takes away what the shim of a container that is gone may have left: one that was killed
    /// leaves its socket.
    ///
    /// # Errors
    /// Where it cannot be removed.
    fn forget(&self, id: &ContainerId) -> Result<(), TaskError>;

    /// Starts a process in a container.
    ///
    /// # Errors
    /// Where it cannot be started.
    async fn exec(&self, order: ExecOrder) -> Result<Exec, TaskError>;

    /// Starts what connects to ports in the network namespace that is pinned here; `None`: in the
    /// node's.
    ///
    /// # Errors
    /// Where it cannot be started, or cannot join.
    async fn dialer(&self, network: Option<&Path>) -> Result<Dialer, TaskError>;
}

/// A shim that has no container yet. Dropped, it ends.
#[async_trait]
pub trait Vacancy: Send + Sync {
    /// Makes the container up to the point where its program could be executed.
    ///
    /// # Errors
    /// What the shim could not do; nothing is left of it.
    async fn create(self: Box<Self>, order: CreateOrder) -> Result<Launched, TaskError>;
}

/// One container's shim.
#[async_trait]
pub trait Task: Send + Sync {
    /// Executes the program; tells when, in nanoseconds since the epoch.
    ///
    /// # Errors
    /// Where the program cannot be executed: the container has then ended with 128.
    async fn start(&self) -> Result<i64, TaskError>;

    /// Sends a signal to the container's init. One that has ended is no error.
    ///
    /// # Errors
    /// Where it is no signal, or the shim that has to send it does not answer.
    async fn signal(&self, signal: i32) -> Result<(), TaskError>;

    /// Opens the log's path anew; the new file is there when this returns.
    ///
    /// # Errors
    /// Where it cannot be opened.
    async fn reopen_log(&self) -> Result<(), TaskError>;

    /// Sets limits: the JSON of an OCI `LinuxResources` with only what changes.
    ///
    /// # Errors
    /// Where the kernel refuses one: the message names the file.
    async fn update(&self, resources: String) -> Result<(), TaskError>;

    /// How the shim fares.
    ///
    /// # Errors
    /// Where it does not answer.
    async fn health(&self) -> Result<api::Health, TaskError>;

    /// Lets a client join the container's streams.
    ///
    /// # Errors
    /// Where the container has ended, or has no stdin that was asked for.
    async fn attach(&self, order: AttachOrder) -> Result<Attachment, TaskError>;

    /// Sets the size of the container's terminal, in columns and rows.
    ///
    /// # Errors
    /// Where it has none.
    async fn resize(&self, width: u16, height: u16) -> Result<(), TaskError>;

    /// Ends the container if it lives, and the shim.
    ///
    /// # Errors
    /// Where the shim does not answer.
    async fn shutdown(&self) -> Result<(), TaskError>;

    /// The connection has ended: no answer and no news will come by it, though the shim may live.
    fn is_lost(&self) -> bool;

    /// Every event up to this one was taken in.
    async fn acknowledge(&self, seq: u64);
}

/// What is needed to make a container.
#[derive(Debug, Clone)]
pub struct CreateOrder {
    /// Its name.
    pub id: ContainerId,
    /// Its bundle: `config.json`, `rootfs.json`, `rootfs/`.
    pub bundle: PathBuf,
    /// Its own directory, where its end is recorded.
    pub directory: PathBuf,
    /// Its log.
    pub log_path: Option<PathBuf>,
    /// Its stdin stays open.
    pub stdin: bool,
    /// Its stdin is closed when the first client has gone.
    pub stdin_once: bool,
    /// Its seccomp program.
    pub seccomp_filter: Option<PathBuf>,
}

impl CreateOrder {
    /// Where a container's exit record is, in its own directory.
    #[must_use]
    pub fn exit_record(directory: &Path) -> PathBuf {
        directory.join("exit.json")
    }
}

/// A container's shim and what it says of the container.
pub struct Launched {
    /// The shim.
    pub task: Arc<dyn Task>,
    /// The init's pid.
    pub pid: i32,
    /// The init's start time in clock ticks since boot.
    pub start_time: u64,
    /// Nanoseconds since the epoch; 0: not started.
    pub started_at: i64,
    /// The init's user.
    pub user: ResolvedUser,
    /// Its end, if it has ended.
    pub exit: Option<Exit>,
}

/// What a client wants of a container's streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOrder {
    /// To write to its stdin.
    pub stdin: bool,
    /// Its stdout from now on, or what its terminal shows.
    pub stdout: bool,
    /// Its stderr from now on.
    pub stderr: bool,
}

/// A client's ends of a container's streams.
#[derive(Debug)]
pub struct Attachment {
    /// What was asked for, in the order stdin, stdout, stderr; of a terminal one socket.
    pub streams: Vec<OwnedFd>,
    /// Tells that the client was cut off because it did not read; an error says nothing.
    pub cut: oneshot::Receiver<()>,
}

/// What is needed to start a process in a container.
#[derive(Debug, Clone)]
pub struct ExecOrder {
    /// The container's init.
    pub pid: i32,
    /// Its start time: proves that the pid is still the container's.
    pub start_time: u64,
    /// The container's bundle.
    pub bundle: PathBuf,
    /// The JSON of an OCI `Process`.
    pub process: String,
    /// The container's seccomp program.
    pub seccomp_filter: Option<PathBuf>,
    /// The process gets a stdin.
    pub stdin: bool,
    /// After this it is killed, with all that it started.
    pub timeout: Option<Duration>,
}

/// News of what runs.
#[derive(Debug)]
pub enum TaskEvent {
    /// Of a container.
    Container {
        /// Whose.
        container: ContainerId,
        /// What.
        kind: TaskEventKind,
    },
    /// The process that held a sandbox's PID namespace or scope has ended; all in that namespace with it.
    HolderEnded(SandboxId),
}

/// What can be news of a container.
#[derive(Debug)]
pub enum TaskEventKind {
    /// It has ended; the number is to be acknowledged.
    Exited {
        /// How.
        exit: Exit,
        /// When it was started, in nanoseconds since the epoch; 0: never.
        started_at: i64,
        /// The event's number.
        seq: u64,
    },
    /// One of its processes was killed for memory.
    OutOfMemory {
        /// The event's number.
        seq: u64,
    },
    /// The connection to its shim has ended without having been asked to; perhaps the shim has.
    ShimLost,
}

/// An exit record in the model's words.
#[must_use]
pub fn exit_of(record: &api::ExitRecord) -> Exit {
    let reason = match record.reason {
        api::ExitReason::Completed => "Completed",
        api::ExitReason::Error => "Error",
        api::ExitReason::OomKilled => "OOMKilled",
        api::ExitReason::StartError => "StartError",
        api::ExitReason::Unknown => "Unknown",
    };
    Exit {
        code: record.code,
        reason: reason.to_owned(),
        message: record.message.clone(),
        finished_at: record.finished_at,
    }
}
