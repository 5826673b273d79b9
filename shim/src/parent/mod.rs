//! The parent's side of creating a container.
//!
//! A [`Stage`] is forked from the resident process, which must stay small: it makes the cgroup,
//! reads the bundle, makes what belongs to the host's side, clones the container's init as the
//! resident process's own child, and goes away. `sync.rs` draws who says what to whom.
//!
//! Invariant: when [`Stage::create`] fails, or the stage is given up, nothing is left: no process,
//! no mount, no cgroup.

mod facts;
mod idmapped;
mod nodes;
pub mod rootfs;
mod stage;
mod trees;
mod volumes;

pub use facts::{RESOURCES, oom_score, own_program, powers, raise_limits};

use crate::api::{CreateRequest, Failure, FailureKind, Lap, Part, User};
use crate::cgroup::Cgroup;
use crate::failure::At;
use crate::hooks::deputy::Deputy;
use crate::init::InnerStdio;
use crate::laps::Laps;
use crate::packet::{self, Received};
use crate::sync::{FromInit, FromStage, GO, Made, ToStage};
use crate::sys::clock;
use crate::sys::clone::{Process, clone3};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, getpid};

/// A container whose init waits to execute the program.
#[derive(Debug)]
pub struct Created {
    /// The init's process id as the host sees it. It is the caller's child.
    pub pid: i32,
    /// The init's start time in clock ticks since boot.
    pub start_time: u64,
    /// Names the init for ever.
    pub pidfd: OwnedFd,
    /// The caller's ends of the container's stdio.
    pub stdio: Stdio,
    /// What lets the init go on.
    pub start: StartGate,
    /// The container's cgroup.
    pub cgroup: Cgroup,
    /// Whom the program runs as.
    pub user: User,
    /// Who runs its later hooks, where it has some.
    pub deputy: Option<Deputy>,
    /// What it took.
    pub laps: Vec<Lap>,
    /// The stage, which ends when this is closed: not before the caller has told of the container, for
    /// its end takes the processor for a while.
    pub stage: OwnedFd,
}

/// The outer ends of a container's stdio.
#[derive(Debug)]
pub enum Stdio {
    /// Pipes.
    Pipes {
        /// To be written; only where a stdin was asked for.
        stdin: Option<OwnedFd>,
        /// To be read.
        stdout: OwnedFd,
        /// To be read.
        stderr: OwnedFd,
    },
    /// A terminal of the container's own devpts.
    Terminal {
        /// To be read and written.
        master: OwnedFd,
    },
}

/// Holds an init back. Dropped without a release, the init exits.
#[derive(Debug)]
pub struct StartGate {
    gate: OwnedFd,
    pid: i32,
}

impl StartGate {
    /// Lets the init execute the program, and waits until it has. Returns what the init had still to do after
    /// it was ready.
    ///
    /// # Errors
    /// [`FailureKind::Start`]: it could not, and exits with code 128.
    pub fn release(self) -> Result<Vec<Lap>, Failure> {
        let laps = self.wait_until_settled()?;
        let step = || "start the container".to_owned();
        match rustix::net::send(&self.gate, GO, SendFlags::NOSIGNAL) {
            Ok(_) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(gone()),
            Err(error) => return Err(error).at(FailureKind::Start, step),
        }
        match self.hear()? {
            None => Ok(laps),
            Some(FromInit::Failed(failure)) => Err(failure),
            Some(_) => Err(out_of_turn()),
        }
    }

    fn wait_until_settled(&self) -> Result<Vec<Lap>, Failure> {
        match self.hear()? {
            Some(FromInit::Settled { laps, worked }) => {
                let mut all = Laps::begin();
                all.take_over(laps);
                // It waits, but for the last steps to there.
                let now = clock::worked(self.pid).unwrap_or(worked);
                all.worked_at(Part::Seccomp, worked, now);
                Ok(all.told())
            }
            Some(FromInit::Failed(failure)) => Err(failure),
            Some(_) => Err(out_of_turn()),
            None => Err(gone()),
        }
    }

    fn hear(&self) -> Result<Option<FromInit>, Failure> {
        let received = packet::receive::<FromInit>(&self.gate);
        let received = received.at(FailureKind::Start, || "start the container".to_owned())?;
        Ok(received.map(|received| received.message))
    }
}

fn gone() -> Failure {
    ended(
        "start the container",
        "its init has ended before the start (out of memory in its cgroup?)",
    )
}

fn out_of_turn() -> Failure {
    ended("start the container", "its init spoke out of turn")
}

/// A process that makes one container. It may be there before anyone asks for one.
#[derive(Debug)]
pub struct Stage {
    socket: OwnedFd,
    process: Process,
}

impl Stage {
    /// Forks it; it waits.
    ///
    /// `oom_score` is what the container gets whose bundle names none: the caller's own is a shim's.
    ///
    /// The caller must be single-threaded and have no other children that end meanwhile unseen. It
    /// reaps the stage: its end is not waited for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin(oom_score: i32) -> Result<Self, Failure> {
        let (socket, theirs) = pair()?;
        let resident = getpid();
        let process = clone3(0, None, || stage::main(resident, oom_score, &theirs))
            .at(FailureKind::System, || "fork the stage".to_owned())?;
        Ok(Self { socket, process })
    }

    /// Lets it make the cgroup of the container that is to come, and does not wait for it. Without
    /// that the bundle's own is made once it is there.
    ///
    /// # Errors
    /// It has ended.
    pub fn prepare(&self, id: &str, cgroup: &str) -> Result<(), Failure> {
        let order = ToStage::Prepare {
            id: id.to_owned(),
            cgroup: cgroup.to_owned(),
        };
        packet::send(&self.socket, &order, &[])
            .at(FailureKind::System, || "tell the stage".to_owned())
    }

    /// Makes the container of a bundle up to the point where its init waits to execute the program.
    ///
    /// # Errors
    /// Which step failed and why; what was made is taken back.
    pub fn create(self, request: &CreateRequest) -> Result<Created, Failure> {
        let Self { socket, process } = self;
        // To one that has failed already it cannot be said: it has said why.
        let _ = packet::send(&socket, &ToStage::Create(request.clone()), &[]);
        let mut cgroup = None;
        let answer = hear(&socket, &mut cgroup);
        match (answer, cgroup) {
            (
                Ok(Some(Received {
                    message: FromStage::Made(made),
                    fds,
                    ..
                })),
                Some(cgroup),
            ) => created(made, cgroup, fds, socket),
            (other, cgroup) => {
                // It ends now.
                drop(socket);
                reap(&process)?;
                Err(not_created(other, cgroup))
            }
        }
    }

    /// Takes back what it has made: there will be no container.
    pub fn give_up(self) {
        // It waits for a request, which does not come.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        let mut cgroup = None;
        let _ = hear(&self.socket, &mut cgroup);
        let _ = reap(&self.process);
        take_away(cgroup);
    }
}

/// Why there is no container; what may be there of it is taken away.
fn not_created(
    answer: Result<Option<Received<FromStage>>, Failure>,
    cgroup: Option<Cgroup>,
) -> Failure {
    let silent = || ended("create the container", "the stage ended without a word");
    let failure = match answer.map(|received| received.map(|received| received.message)) {
        Ok(Some(FromStage::Failed { failure, init })) => {
            reap_failed(init);
            return failure;
        }
        Ok(_) => silent(),
        Err(failure) => failure,
    };
    take_away(cgroup);
    failure
}

/// What the stage says last, and on the way the cgroup.
fn hear(
    stage: &OwnedFd,
    cgroup: &mut Option<Cgroup>,
) -> Result<Option<Received<FromStage>>, Failure> {
    loop {
        let received = packet::receive::<FromStage>(stage);
        match received.at(FailureKind::System, || "hear from the stage".to_owned())? {
            Some(Received {
                message: FromStage::Cgroup(named),
                ..
            }) => *cgroup = Some(named),
            other => return Ok(other),
        }
    }
}

fn created(
    made: Made,
    cgroup: Cgroup,
    fds: Vec<OwnedFd>,
    stage: OwnedFd,
) -> Result<Created, Failure> {
    let mut fds = fds.into_iter();
    let missing = || ended("create the container", "a descriptor is missing");
    let (pidfd, gate) = (
        fds.next().ok_or_else(missing)?,
        fds.next().ok_or_else(missing)?,
    );
    let deputy = match made.has_deputy {
        true => Some(fds.next().ok_or_else(missing)?.into()),
        false => None,
    };
    let stdio = stdio(fds.collect()).ok_or_else(missing)?;
    Ok(Created {
        deputy,
        pid: made.pid,
        start_time: made.start_time,
        pidfd,
        stdio,
        start: StartGate {
            gate,
            pid: made.pid,
        },
        cgroup,
        user: made.user,
        laps: made.laps,
        stage,
    })
}

fn stdio(mut fds: Vec<OwnedFd>) -> Option<Stdio> {
    if fds.len() == 1 {
        return fds.pop().map(|master| Stdio::Terminal { master });
    }
    let stderr = fds.pop()?;
    let stdout = fds.pop()?;
    Some(Stdio::Pipes {
        stdin: fds.pop(),
        stdout,
        stderr,
    })
}

impl Stdio {
    /// Its descriptors, in the order in which they travel.
    #[must_use]
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Terminal { master } => vec![master.as_fd()],
            Self::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                let stdin = stdin.iter().map(AsFd::as_fd);
                stdin.chain([stdout.as_fd(), stderr.as_fd()]).collect()
            }
        }
    }
}

fn reap(process: &Process) -> Result<(), Failure> {
    let wait =
        || rustix::process::waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED);
    match rustix::io::retry_on_intr(wait) {
        // It had ended before anyone asked, and was reaped with what else had.
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(error) => Err(error).at(FailureKind::System, || "reap the stage".to_owned()),
    }
}

/// An init that was there when the stage failed has ended, or ends now that its gate is closed.
fn reap_failed(init: Option<i32>) {
    if let Some(pid) = init.and_then(Pid::from_raw) {
        // It is our own child, so its pid names it until we have waited for it.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ =
            rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
    }
}

/// The stage was killed: its init, if there is one, sees its gate closed and ends.
fn take_away(cgroup: Option<Cgroup>) {
    if let Some(cgroup) = &cgroup {
        let _ = cgroup.kill_now();
    }
    reap_all();
    if let Some(cgroup) = cgroup {
        let _ = cgroup.remove();
    }
}

fn reap_all() {
    while let Ok(Some(_)) =
        rustix::io::retry_on_intr(|| rustix::process::wait(WaitOptions::empty()))
    {}
}

/// Makes the pipes of a process: the outer ends and the inner ones.
///
/// # Errors
/// What the kernel says.
pub fn pipes(stdin: bool) -> Result<(Stdio, InnerStdio), Failure> {
    let pipe =
        || pipe_with(PipeFlags::CLOEXEC).at(FailureKind::System, || "make a pipe".to_owned());
    let (stdout, inner_stdout) = pipe()?;
    let (stderr, inner_stderr) = pipe()?;
    let (inner_stdin, stdin) = match stdin {
        true => pipe().map(|(read, write)| (Some(read), Some(write)))?,
        false => (None, None),
    };
    let inner = InnerStdio::Pipes {
        stdin: inner_stdin,
        stdout: inner_stdout,
        stderr: inner_stderr,
    };
    Ok((
        Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        },
        inner,
    ))
}

/// Makes a gate: a pair of sockets that keep packets apart.
///
/// # Errors
/// What the kernel says.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .at(FailureKind::System, || "make a socket pair".to_owned())
}

fn ended(step: &str, cause: &str) -> Failure {
    Failure {
        kind: FailureKind::System,
        step: step.to_owned(),
        errno: 0,
        chain: vec![cause.to_owned()],
    }
}
