//! How a shim gets into the cgroup of shims on a host that has only cgroup v2: it is born there.
//!
//! ```text
//! daemon ─spawn─▶ starter ─clone3, into the cgroup─▶ shim
//!                    │                                 │ makes its container
//!                    └──◀── the end of a pipe ─────────┘ lets go of the starter, which ends
//! ```
//! To write to `cgroup.procs` instead waits for an RCU grace period (8 ms), and holds up whoever
//! makes a cgroup meanwhile.
//!
//! Invariant: who kills the process that it has started, before the container is made, kills the
//! shim: until then the shim dies with its starter.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::sys::{clone, descriptors};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// The process that this one was cloned from, while it waits.
#[derive(Debug)]
pub struct Starter(OwnedFd);

impl Starter {
    /// Lets it end, and is tied to it no longer.
    pub fn release(self) {
        // It takes no argument that could be wrong.
        let _ = set_parent_process_death_signal(None);
        drop(self.0);
    }
}

/// Runs `shim` in a child that is born in the cgroup of this directory; descriptors but 0 to 2 are
/// closed there. Returns here, with an exit code, when that child lets go of its starter or ends.
///
/// # Errors
/// What the kernel says.
pub fn in_cgroup(directory: &OwnedFd, shim: impl FnOnce(Starter) -> u8) -> Result<u8, Failure> {
    let step = || "start the shim in its cgroup".to_owned();
    let (released, held) = pipe_with(PipeFlags::CLOEXEC).at(FailureKind::System, step)?;
    let starter = getpid();
    let born = clone::clone3(0, Some(directory.as_fd()), move || {
        i32::from(be_born(starter, held, shim))
    });
    born.at(FailureKind::System, step)?;
    // The daemon's socket, by whose end it sees that of the shim, is the shim's alone.
    rustix::stdio::dup2_stdin(&released).at(FailureKind::System, step)?;
    let read = rustix::io::retry_on_intr(|| rustix::io::read(&released, &mut [0; 1]));
    read.map(|_| 0).at(FailureKind::System, step)
}

fn be_born(starter: Pid, held: OwnedFd, shim: impl FnOnce(Starter) -> u8) -> u8 {
    let tied = descriptors::close_all_but(&[held.as_fd()])
        .and_then(|()| set_parent_process_death_signal(Some(Signal::KILL)))
        .and_then(|()| match getppid() == Some(starter) {
            true => Ok(()),
            false => Err(Errno::SRCH),
        });
    match tied {
        Ok(()) => shim(Starter(held)),
        Err(_) => 1,
    }
}
