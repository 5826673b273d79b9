//! What the daemon and the programs of `corten-shim` say to each other.
//!
//! Every verb of the binary is started with one end of a `SEQPACKET` socket pair as descriptor 0
//! and hears its first request there. `run` also listens on a socket of its own, so that a daemon
//! that was restarted finds it again. One message is one packet (see [`crate::packet`]).
//!
//! Invariant: these types are the protocol. A change that an older peer would misread takes a new
//! [`NEWEST`], and a daemon speaks that version and the one before.

mod lap;

pub use lap::{Lap, Part};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The newest protocol version that this build speaks. Only what a shim of another version may be told has one: a container is
/// made by a shim of the daemon's own version (`SandboxRequest::Seal`).
pub const NEWEST: u16 = 2;
/// The oldest protocol version that this build speaks.
pub const OLDEST: u16 = 1;

/// The argument of an `exec`, `dial` or `sandbox` that was started before its request is known; it is
/// not shown any longer once the request has come.
pub const SPARE: &str = "--spare";

// === corten-shim run ===

/// Stands for the id in the arguments of a `corten-shim run` that is started before its container is
/// known, and its beginning for that of the id in the socket's name: the first container that it
/// creates gives it both.
pub const ANY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A request to `corten-shim run`, with a number that its [`Answer`] repeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the caller, unique on its connection.
    pub id: u64,
    /// What is asked for.
    pub request: Request,
}

/// The verbs of `corten-shim run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Must be the first on a connection. Answered with [`Reply::Hello`].
    Hello {
        /// The oldest version that the daemon speaks.
        oldest: u16,
        /// The newest version that the daemon speaks.
        newest: u16,
    },
    /// Makes the container up to the point where its program could be executed.
    /// Answered with [`Reply::Timed`] and the pidfd of its init.
    Create(CreateRequest),
    /// Executes the container's program. Answered when `execve` has succeeded or failed; a failure
    /// is a [`Failure`] of kind [`FailureKind::Start`] and also ends the container with code 128.
    Start,
    /// Answered with [`Reply::Status`] and, while the init lives, its pidfd.
    Status,
    /// Sets the size of the container's terminal.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Sends a signal to the container's init: for those that the daemon itself cannot send, the
    /// real-time ones. One that has ended is no failure.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Closes the log file and opens its path anew; answered when the new file exists.
    ReopenLog,
    /// Joins the container's streams. Answered with [`Reply::Attached`] and the descriptors that
    /// were asked for, in the order stdin, stdout, stderr (with a terminal: one stream socket).
    /// Answered a second time, with a [`Failure`], when the client is cut off for not reading.
    Attach {
        /// Wants to write to the container's stdin.
        stdin: bool,
        /// Wants the container's stdout from now on.
        stdout: bool,
        /// Wants the container's stderr from now on.
        stderr: bool,
    },
    /// Writes new limits: the JSON of an OCI `LinuxResources` that holds only what changes.
    Update {
        /// The JSON text.
        resources: String,
    },
    /// Answered with [`Reply::Health`].
    Health,
    /// Every event up to this number was handled and need not be kept for a later connection.
    Acknowledge {
        /// The highest number that was handled.
        up_to: u64,
    },
    /// The container has ended and its record was read, or it was never started: remove what is
    /// left of it (kills it where it still lives) and end. Answered before the shim ends.
    Shutdown,
    /// The container that is to come has a record on disk: begins with its cgroup, while its bundle
    /// is written, and answers with [`Reply::Done`] without waiting for it. [`Request::Create`]
    /// follows, or the shim's end, which takes the cgroup away again.
    Prepare {
        /// The container's id: 64 hex digits.
        id: String,
        /// The path of its cgroup, as the bundle will name it.
        cgroup: String,
    },
}

/// What `corten-shim run` needs to make a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The container's id: 64 hex digits.
    pub id: String,
    /// The OCI bundle: `config.json` and `rootfs/`; beside them `rootfs.json`, a list of
    /// [`RootfsMount`] to be mounted at `rootfs/` (absent where the bundle's rootfs is ready), and
    /// `volumes.json`, a list of [`ImageVolume`] (absent where there is none).
    pub bundle: PathBuf,
    /// The CRI log file; `None` reads the streams and drops them. Where it has a `/./`, no link is
    /// followed after that.
    pub log_path: Option<PathBuf>,
    /// Keeps the container's stdin open for those who attach.
    pub stdin: bool,
    /// Closes the container's stdin when the first client that attached to it has gone.
    pub stdin_once: bool,
    /// The classic BPF program of the container's seccomp profile, as an array of `sock_filter`;
    /// its flags are those of the bundle's `linux.seccomp.flags`. `None`: unconfined.
    pub seccomp_filter: Option<PathBuf>,
    /// Where the [`ExitRecord`] is to be written, as JSON.
    pub exit_record: PathBuf,
    /// What [`SandboxRequest::Bare`] has given out, by a path that names it while somebody holds it
    /// (`/proc/PID/fd/N`). Without it the container's mount namespace begins as a copy of the host's.
    pub bare: Option<PathBuf>,
}

/// One mount below a bundle's `rootfs/`, kept in the bundle's `rootfs.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootfsMount {
    /// The file system type, such as `overlay`, or `bind`.
    pub fs_type: String,
    /// The source; for overlay any word.
    pub source: String,
    /// Flags and file system options. An overlay's layers are repeated `lowerdir+=PATH` options,
    /// the topmost first, so that their number is not bounded by one page.
    pub options: Vec<String>,
}

/// An image that the container sees: what is to be mounted at a place that the bundle's
/// `config.json` names as the source of a bind mount. Kept in the bundle's `volumes.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageVolume {
    /// The place.
    pub path: PathBuf,
    /// Exactly one mount.
    pub mounts: Vec<RootfsMount>,
    /// The directory or file of the image that is shown, resolved inside the image; empty: all.
    pub sub_path: String,
}

/// What `corten-shim run` sends: answers to calls, and events without being asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// The answer to a [`Call`].
    Answer(Answer),
    /// Something happened to the container.
    Event(Event),
}

/// The answer to the [`Call`] with the same number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The number of the call.
    pub id: u64,
    /// What came of it.
    pub result: Result<Reply, Failure>,
}

/// The successful end of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The call has nothing to tell.
    Done,
    /// To [`Request::Hello`].
    Hello {
        /// The version to be spoken from here on.
        version: u16,
        /// The shim's own process id.
        pid: i32,
    },
    /// To [`Request::Status`], and before version 2 to [`Request::Create`] and [`Request::Start`].
    Status(Status),
    /// To [`Request::Attach`]; the descriptors travel with the packet.
    Attached,
    /// To [`Request::Health`].
    Health(Health),
    /// To [`Request::Create`] and [`Request::Start`], from version 2 on: as [`Reply::Status`], with
    /// the time that each part has taken.
    Timed {
        /// The container.
        status: Status,
        /// In the order in which they were first worked at.
        laps: Vec<Lap>,
    },
}

impl Reply {
    /// The container's status, where it tells of it.
    #[must_use]
    pub fn into_status(self) -> Option<Status> {
        match self {
            Self::Status(status) | Self::Timed { status, .. } => Some(status),
            _ => None,
        }
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// No container was made yet.
    Empty,
    /// Its init waits to execute the program.
    Created,
    /// Its program runs.
    Running,
    /// It has ended; the exit record is on disk.
    Exited,
}

/// A container as its shim sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where it is in its life.
    pub state: State,
    /// The process id of its init as the host sees it; 0 before Create.
    pub pid: i32,
    /// The init's start time in clock ticks since boot (field 22 of `/proc/PID/stat`): with the
    /// pid it names one process for ever.
    pub start_time: u64,
    /// Nanoseconds since the epoch at which the program was executed; 0 before.
    pub started_at: i64,
    /// Whom its program runs as, from the bundle; `None` before Create.
    pub user: Option<User>,
    /// How it ended, once it has.
    pub exit: Option<ExitRecord>,
}

/// The numeric identity of a container's program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// The supplementary group ids.
    pub groups: Vec<u32>,
}

/// Something that happened to a container; numbered from 1 without gaps, and told again on a new
/// connection until it was acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number.
    pub seq: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What can happen to a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// It has ended, and its record is on disk.
    Exited(ExitRecord),
    /// A process of its cgroup was killed for memory while the container lives on.
    OutOfMemory,
}

/// How a container ended. Written as JSON before anyone is told, so that no kill loses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The process id that its init had.
    pub pid: i32,
    /// The exit code; 128 + the signal's number where a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why, in the words of the CRI.
    pub reason: ExitReason,
    /// More about the reason, for a person; may be empty.
    pub message: String,
    /// Nanoseconds since the epoch at which the program was executed; 0 if it never was.
    pub started_at: i64,
    /// Nanoseconds since the epoch at which the end was seen.
    pub finished_at: i64,
}

/// Why a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit code 0.
    Completed,
    /// Any other exit code, or a signal.
    Error,
    /// Killed by the kernel for the memory limit of its own cgroup.
    #[serde(rename = "OOMKilled")]
    OomKilled,
    /// The program could not be executed (code 128).
    StartError,
    /// Nobody saw the end (code 255): a new boot, or a shim that was killed.
    Unknown,
}

/// How a shim fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Bytes written to the log since the start.
    pub logged_bytes: u64,
    /// Lines that could not be written to the log (disk full, quota, I/O error).
    pub dropped_lines: u64,
    /// The errno of the last failed write to the log; 0 if none failed.
    pub log_errno: i32,
    /// Clients that are attached now.
    pub attached: u32,
    /// Clients that were disconnected because they did not read.
    pub slow_clients: u64,
    /// Processes of the container's cgroup that were killed for memory.
    pub oom_kills: u64,
    /// Events that nobody has acknowledged yet.
    pub unacknowledged: u32,
}

// === corten-shim exec ===

/// The one request to `corten-shim exec`; the pidfd of the container's init travels with it.
///
/// Answered with [`ExecReply::Started`] and, in this order, the daemon's ends of stdin (only where
/// asked for), stdout and stderr; or with the terminal's master alone. Then, once, with
/// [`ExecReply::Exited`]. When the socket is closed before that, a terminal is hung up, a process
/// with a stdin or a terminal has three seconds to end by itself, then it and all that descend from it
/// are killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The container's init.
    pub pid: i32,
    /// The container's bundle: its namespaces, cgroup and seccomp flags are read there.
    pub bundle: PathBuf,
    /// The JSON of an OCI `Process`: arguments, environment, user, capabilities, terminal …
    pub process: String,
    /// As in [`CreateRequest`].
    pub seccomp_filter: Option<PathBuf>,
    /// Gives the process a stdin; else it reads `/dev/null`.
    pub stdin: bool,
    /// Milliseconds after which the process and its descendants are killed; 0: never.
    pub timeout_ms: u64,
}

/// What may follow an [`ExecRequest`] on the same socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ExecControl {
    /// Sets the size of the terminal.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Sends a signal to the process.
    Signal {
        /// Its number.
        signal: i32,
    },
}

/// What `corten-shim exec` sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ExecReply {
    /// The program runs.
    Started {
        /// Its process id as the host sees it.
        pid: i32,
    },
    /// The program has ended.
    Exited {
        /// The exit code; 128 + the signal's number where a signal ended it.
        code: i32,
        /// It was killed because its time was up.
        timed_out: bool,
    },
    /// It could not be started.
    Failed(Failure),
}

// === corten-shim sandbox ===

/// The one request to `corten-shim sandbox`, answered with one [`SandboxReply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SandboxRequest {
    /// Makes and pins a pod's namespaces.
    Pin(PinRequest),
    /// Ends the holder and takes the pins, the shm mount and their files away. What is already
    /// gone is passed over, so that it may be asked for again.
    Unpin(Pins),
    /// Finds out whether a pod can have a user namespace: makes one, and in a new directory below
    /// this one an overlay whose layers it maps. Nothing of it is left.
    Probe(PathBuf),
    /// Gives out a program by a descriptor (`O_PATH`) through which nobody can write it.
    Seal(PathBuf),
    /// Gives out a mount namespace with almost nothing in it, from which containers' inits are cloned.
    Bare,
}

/// Which namespaces of a pod are its own, and where they are pinned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pins {
    /// The pod's own user namespace, which then owns all the others; `None`: the host's.
    pub user: Option<PathBuf>,
    /// The pod's own network namespace; `None`: the host's.
    pub network: Option<PathBuf>,
    /// The pod's own IPC namespace; `None`: the host's.
    pub ipc: Option<PathBuf>,
    /// The pod's own UTS namespace; `None`: the host's.
    pub uts: Option<PathBuf>,
    /// The PID namespace that the pod's containers share; `None`: it has none.
    pub pid: Option<PathBuf>,
    /// Where the pod's `/dev/shm` is mounted; `None`: the host's is used.
    pub shm: Option<PathBuf>,
    /// The process that holds the PID namespace or the pod's scope (`corten-shim pause`), once it runs.
    pub holder: Option<ProcessName>,
}

/// A process, named so that a reused pid is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessName {
    /// Its pid as the host sees it.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
}

/// What a pod's namespaces are to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinRequest {
    /// Where to pin what; `holder` is ignored.
    pub pins: Pins,
    /// What the ids of the pod's own user namespace are on the host; given exactly where that is
    /// pinned.
    pub ids: Option<IdMaps>,
    /// The host name of the pod's own UTS namespace.
    pub hostname: String,
    /// Names with dots, such as `net.core.somaxconn`, and values. One that does not belong to a
    /// namespace of the pod's own is refused.
    pub sysctls: Vec<(String, String)>,
    /// The size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// The cgroup in which the holder is born: that of shims (see `corten-shim run --cgroup`), or one
    /// out of which a scope takes it.
    pub cgroup: Option<PathBuf>,
    /// The pod gets a scope, which ends when it is empty: there is a holder also where no PID
    /// namespace is shared.
    pub scoped: bool,
}

/// What the ids of a user namespace are outside of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Of users.
    pub uids: Vec<IdMap>,
    /// Of groups.
    pub gids: Vec<IdMap>,
}

/// A range of ids. In JSON it has the names of the OCI runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// The first id inside.
    #[serde(rename = "containerID")]
    pub inside: u32,
    /// The first id outside.
    #[serde(rename = "hostID")]
    pub outside: u32,
    /// How many.
    #[serde(rename = "size")]
    pub length: u32,
}

/// What `corten-shim sandbox` sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SandboxReply {
    /// The namespaces are pinned. With the packet travel: an rtnetlink socket opened in the
    /// network namespace (only where the pod has its own), then the holder's pidfd (only where
    /// there is one).
    Pinned {
        /// The process that holds the PID namespace or the scope.
        holder: Option<ProcessName>,
    },
    /// All that was named is gone.
    Unpinned,
    /// A pod can have a user namespace here, or why not.
    Probed(Result<(), Failure>),
    /// It could not be done; what was made is taken back.
    Failed(Failure),
    /// With the packet travels the program.
    Sealed,
    /// To [`SandboxRequest::Bare`]; the namespace comes with it.
    Bare,
}

// === corten-shim dial ===

/// A request to `corten-shim dial`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialRequest {
    /// Chosen by the caller, and repeated in the answer.
    pub id: u64,
    /// What is to be done.
    pub wish: DialWish,
}

/// What a [`DialRequest`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DialWish {
    /// Joins the network namespace that travels with it, and makes sockets there: the first request,
    /// where a pod has its own.
    Join,
    /// Makes sockets.
    Sockets,
    /// Joins the namespace that travels with it, which is the node's, and is in reserve again.
    Rest,
}

/// The answer to a [`DialRequest`], in their order. With those that make sockets travel a TCP socket
/// for each of IPv4 and IPv6 that the node has: non-blocking, and not connected to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialReply {
    /// The request's.
    pub id: u64,
    /// 0, or why it could not be done.
    pub errno: i32,
}

// === failures ===

/// Why a shim could not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// The step that failed, such as `mount /proc`.
    pub step: String,
    /// The kernel's answer, where it was the kernel that refused; else 0.
    pub errno: i32,
    /// The cause and its causes, the outermost first; never empty.
    pub chain: Vec<String>,
}

/// The kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The bundle or the request cannot be right.
    Invalid,
    /// The verb does not fit the container's state.
    State,
    /// The program could not be executed.
    Start,
    /// The image's user or group does not exist.
    User,
    /// A mount of the container failed.
    Mount,
    /// The kernel refused a step.
    System,
    /// No version that both sides speak.
    Version,
    /// An image that is to be seen could not be mounted.
    ImageVolume,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.chain.join(": "))
    }
}

impl std::error::Error for Failure {}
