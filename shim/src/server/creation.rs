//! What the server asks of those who make containers.
//!
//! The real ones are [`crate::parent`] and [`crate::cgroup`]; the tests have a fake that starts a
//! plain process.

use crate::api::{CreateRequest, Failure, Lap, User};
use crate::hooks::deputy::Deputy;
use crate::io::streams::Stdio;
use rustix::fd::OwnedFd;

/// Makes containers.
pub trait Creator {
    /// Does ahead of the container what it can: nobody waits for it now.
    fn stand_by(&mut self);

    /// Begins with the cgroup of the container that is to come, and does not wait for it.
    ///
    /// # Errors
    /// Where that cannot be begun. What fails on the way is told by [`Creator::create`].
    fn prepare(&mut self, id: &str, cgroup: &str) -> Result<(), Failure>;

    /// Does what was left over from a create: its caller has been told.
    fn rest(&mut self);

    /// Takes back what was prepared, if anything was: there will be no container.
    fn give_up(&mut self);

    /// Makes a container up to the point where its program could be executed.
    ///
    /// # Errors
    /// Which step failed, and why; what was made is undone.
    fn create(&mut self, request: &CreateRequest) -> Result<Created, Failure>;
}

/// A container whose init waits.
pub struct Created {
    /// The init's process id as the host sees it.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The shim's ends of its streams.
    pub stdio: Stdio,
    /// Lets it go on.
    pub gate: Box<dyn Gate>,
    /// Its cgroup.
    pub cgroup: Box<dyn Cgroup>,
    /// Whom its program will run as.
    pub user: User,
    /// Who runs its later hooks, where it has some.
    pub deputy: Option<Deputy>,
    /// What it took.
    pub laps: Vec<Lap>,
}

/// Holds a container's init before its program.
pub trait Gate {
    /// Lets the init execute the program; what else it has done since it was made.
    ///
    /// # Errors
    /// Why the program could not be executed; the init ends by itself then.
    fn release(self: Box<Self>) -> Result<Vec<Lap>, Failure>;
}

/// A container's cgroup.
pub trait Cgroup {
    /// How many of its processes were killed for memory so far.
    fn memory_kills(&self) -> u64;

    /// A descriptor, non-blocking, that is readable when memory has run out; reading it makes it
    /// quiet. Kills are counted soon after.
    fn oom_events(&self) -> Option<OwnedFd>;

    /// Kills all processes that are in it, without waiting for their ends.
    ///
    /// # Errors
    /// What the kernel says.
    fn kill_all(&self) -> Result<(), Failure>;

    /// Removes it, without waiting; one that is gone already is no error.
    ///
    /// # Errors
    /// Processes are still in it.
    fn remove(&self) -> Result<(), Failure>;

    /// Writes new limits, as in [`crate::api::Request::Update`].
    ///
    /// # Errors
    /// Which limit was refused, and why.
    fn update(&self, resources: &str) -> Result<(), Failure>;
}
