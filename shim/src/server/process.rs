//! What makes a process a shim: its session, its children's children, its signals.
//!
//! Invariant: while its container lives a shim cannot be ended by a signal but SIGKILL, and it survives the
//! memory pressure that its container makes.

use crate::api::Failure;
use crate::sys::{heap, signals};
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Pid};

/// Signals that come through a descriptor: a child's end, and those that a host which shuts down
/// sends to everybody, who would else lose their records.
const SIGNALS: [i32; 4] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// The settings that hold for the whole process.
#[derive(Debug)]
pub struct Process {
    signals: OwnedFd,
}

impl Process {
    /// Makes this process a shim.
    ///
    /// # Errors
    /// What a shim cannot do without.
    pub fn settle() -> Result<Self, Failure> {
        heap::give_back();
        // Fails for a process that leads a session already, which is what is wanted.
        let _ = rustix::process::setsid();
        rustix::process::set_child_subreaper(Some(Pid::INIT))
            .map_err(|errno| Failure::system("become a subreaper", errno))?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| Failure::system("become undumpable", errno))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        // Refused without CAP_SYS_RESOURCE: the shim then keeps what the daemon has.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
        let signals = signals::descriptor(&SIGNALS).map_err(|error| {
            let errno = rustix::io::Errno::from_io_error(&error);
            Failure::system("take signals", errno.unwrap_or(rustix::io::Errno::IO))
        })?;
        Ok(Self { signals })
    }

    /// Readable when a child has ended.
    #[must_use]
    pub fn signals(&self) -> &OwnedFd {
        &self.signals
    }

    /// Makes the descriptor quiet, and says whether the shim was told to end: a host that shuts down does so.
    #[must_use]
    pub fn clear(&self) -> bool {
        signals::clear(&self.signals)
    }
}

/// Leaves the directory that the shim was started in, whose file system it would keep busy.
///
/// # Errors
/// What the kernel says.
pub fn leave_directory() -> Result<(), Failure> {
    rustix::process::chdir("/").map_err(|errno| Failure::system("go to /", errno))
}
