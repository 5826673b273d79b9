//! The deputy: a process of the host's, with all of its powers, for what is to be done out there while
//! a container is made and after its shim has given its own powers up.
//!
//! ```text
//! stage ── fork, before it joins any namespace ─▶ deputy
//!   Moment::Made, Listener ─────────────────────▶ prestart, createRuntime; hands a listener over
//!   ◀──────────────────────────────── Ok, or why not
//! the socket goes to the resident process, where there are hooks for later
//!   Moment::Started ────────────────────────────▶ poststart
//!   Moment::Gone, or nobody is left ────────────▶ poststop, and ends
//! ```
//! Invariant: there is one only for a bundle that asks for it, and its poststop hooks run once, also
//! when the shim is killed.

use super::{run, run_all, state_file};
use crate::api::{Failure, FailureKind};
use crate::bundle::{Hooks, Seccomp};
use crate::failure::At;
use crate::packet;
use crate::parent::pair;
use crate::seccomp::listener;
use crate::state::Identity;
use crate::sys::clone::fork;
use crate::sys::descriptors;
use rustix::fd::{AsFd, OwnedFd};
use serde::{Deserialize, Serialize};

/// What has happened, and is to be acted upon.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Moment {
    /// The init of this process id has made its mounts.
    Made(i32),
    /// The init of this process id has a listener of this descriptor.
    Listener(i32, i32),
    /// The program of this process id runs.
    Started(i32),
    /// There is no container any more.
    Gone,
}

/// The deputy's other end. When it is dropped, the container has gone.
#[derive(Debug)]
pub struct Deputy(OwnedFd);

/// What a deputy knows.
struct Duties<'a> {
    hooks: &'a Hooks<'a>,
    seccomp: Option<&'a Seccomp<'a>>,
    identity: Identity<'a>,
}

impl Hooks<'_> {
    /// Whether the init stops before its root is its own.
    #[must_use]
    pub fn are_for_create(&self) -> bool {
        let lists = [&self.prestart, &self.create_runtime, &self.create_container];
        lists.iter().any(|list| !list.is_empty())
    }

    /// Whether there is something to be done on the host after the create.
    #[must_use]
    pub fn are_for_later(&self) -> bool {
        !self.poststart.is_empty() || !self.poststop.is_empty()
    }
}

impl Deputy {
    /// Starts one, where a bundle needs it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin(
        hooks: &Hooks<'_>,
        seccomp: Option<&Seccomp<'_>>,
        identity: Identity<'_>,
    ) -> Result<Option<Self>, Failure> {
        let listens = seccomp.is_some_and(|seccomp| seccomp.listener().is_some());
        if !listens && !hooks.are_for_create() && !hooks.are_for_later() {
            return Ok(None);
        }
        let (ours, theirs) = pair()?;
        let duties = Duties {
            hooks,
            seccomp,
            identity,
        };
        fork(|| serve(&duties, &theirs))
            .at(FailureKind::System, || "start the deputy".to_owned())?;
        Ok(Some(Self(ours)))
    }

    /// Has it act, and waits until it has.
    ///
    /// # Errors
    /// What the hook or the kernel says.
    pub fn act(&self, moment: Moment) -> Result<(), Failure> {
        self.tell(moment)?;
        self.hear()
    }

    /// Has it act; [`Deputy::hear`] tells what came of it.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn tell(&self, moment: Moment) -> Result<(), Failure> {
        packet::send(&self.0, &moment, &[]).at(FailureKind::System, lost)
    }

    /// What came of it; waits for it.
    ///
    /// # Errors
    /// As [`Deputy::act`].
    pub fn hear(&self) -> Result<(), Failure> {
        let heard =
            packet::receive::<Result<(), Failure>>(&self.0).at(FailureKind::System, lost)?;
        let gone = || Failure::invalid(lost(), "it was killed");
        heard.ok_or_else(gone)?.message
    }

    /// Readable when [`Deputy::hear`] need not wait.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.0
    }
}

impl From<OwnedFd> for Deputy {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Deputy> for OwnedFd {
    fn from(deputy: Deputy) -> Self {
        deputy.0
    }
}

fn lost() -> String {
    "ask the deputy".to_owned()
}

fn serve(duties: &Duties<'_>, socket: &OwnedFd) -> i32 {
    if descriptors::close_all_but(&[socket.as_fd()]).is_err() {
        return 1;
    }
    // Hooks begin there, as they do under runc; one that has gone meanwhile is no reason not to run them.
    let _ = rustix::process::chdir(duties.identity.bundle);
    // What cannot be read is as good as nobody.
    while let Ok(Some(received)) = packet::receive::<Moment>(socket) {
        let done = duties.act(received.message);
        let told = packet::send(socket, &done, &[]);
        if told.is_err() || matches!(received.message, Moment::Gone) {
            return 0;
        }
    }
    i32::from(duties.act(Moment::Gone).is_err())
}

impl Duties<'_> {
    fn act(&self, moment: Moment) -> Result<(), Failure> {
        let state = |status, pid| state_file(&self.identity.state(status, pid));
        match moment {
            Moment::Made(pid) => {
                let state = state("creating", pid)?;
                run(&self.hooks.prestart, &state)?;
                run(&self.hooks.create_runtime, &state)
            }
            Moment::Listener(pid, descriptor) => {
                let seccomp = self.seccomp.ok_or_else(listener::nobody)?;
                let taken = listener::take(pid, descriptor)?;
                seccomp.hand_over(&taken, &self.identity, "creating", pid)
            }
            Moment::Started(pid) => run(&self.hooks.poststart, &state("running", pid)?),
            Moment::Gone => {
                run_all(&self.hooks.poststop, &state("stopped", 0)?);
                Ok(())
            }
        }
    }
}
