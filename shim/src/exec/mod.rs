//! `corten-shim exec`: one process joins a container, and this one stands beside it.
//!
//! ```text
//! daemon                      exec                        between         child
//!   ExecRequest + pidfd ────▶ parse, user, terminal or pipes
//!                             clone3 ───────────────────▶ cgroup, descriptors,
//!                                                         setns, clone3 ▶ user, filter
//!                             ◀──────── gate closed: execve has succeeded (or why not)
//!   ◀── Started + descriptors
//!   Resize, Signal ─────────▶ polls: socket, pidfd, the time
//!   ◀──────────────── Exited  reaps, removes the nested cgroup
//! ```
//! The daemon starts one for every exec, so that a probe never waits behind a chatty log.
//!
//! Invariant: what was started here ends with its client. The child lives in a cgroup of its own
//! below the container's (in one hierarchy only), so that whoever descends from it is found, a
//! daemon with a session of its own included.

mod join;
mod supervise;

use crate::api::{ExecReply, ExecRequest, Failure, FailureKind};
use crate::failure::At;
use crate::packet;
use crate::title;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Serves the one request of a socket; a failure is told there.
///
/// # Errors
/// Nobody is there to be told.
pub fn run(socket: &OwnedFd) -> Result<(), Failure> {
    let Err(failure) = serve(socket) else {
        return Ok(());
    };
    // Who asked tells it to whoever runs the node, too.
    packet::send(socket, &ExecReply::Failed(failure), &[])
        .at(FailureKind::System, || "tell of the failure".to_owned())
}

fn serve(socket: &OwnedFd) -> Result<(), Failure> {
    // What joins a container is seen there before it has given anything up.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at(FailureKind::System, || "hide the exec".to_owned())?;
    let received = packet::receive::<ExecRequest>(socket)
        .at(FailureKind::Invalid, || "hear the request".to_owned())?;
    let Some(mut received) = received else {
        return Ok(());
    };
    let missing = || {
        Failure::invalid(
            "hear the request",
            "the pidfd of the container's init is missing",
        )
    };
    let init = received.fds.pop().ok_or_else(missing)?;
    let joined = join::join(&received.message, &init)?;
    let fds: Vec<_> = joined.stdio.descriptors();
    let started = packet::send(
        socket,
        &ExecReply::Started {
            pid: joined.process.pid,
        },
        &fds,
    );
    drop(fds);
    // Nothing depends on it but who looks at the list of processes.
    let _ = title::take_up();
    if started.is_err() {
        joined.nested.end();
        return Ok(());
    }
    crate::confine::confine();
    supervise::supervise(socket.as_fd(), joined, &received.message);
    Ok(())
}
