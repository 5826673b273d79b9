//! New processes: `fork`, `clone3`, `unshare`.
//!
//! Invariant: a child made here never returns into its parent's code: it runs the closure that it
//! was given and leaves by `_exit`, so no destructor and no exit handler of the parent runs twice.

use super::result;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Flags of `clone3`, as in `linux/sched.h`.
pub mod flags {
    /// The child's parent is the caller's parent.
    pub const PARENT: u64 = libc::CLONE_PARENT as u64;
    /// A new mount namespace.
    pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
    /// A new UTS namespace.
    pub const NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
    /// A new IPC namespace.
    pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
    /// A new PID namespace.
    pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
    /// A new user namespace, which owns the others that are made with it.
    pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
    /// A new network namespace.
    pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;
    pub(super) const PIDFD: u64 = libc::CLONE_PIDFD as u64;
    pub(super) const INTO_CGROUP: u64 = 0x2_0000_0000;
}

/// `struct clone_args` of `linux/sched.h`, its third version (88 bytes).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A process that was just made.
#[derive(Debug)]
pub struct Process {
    /// Its id as the caller sees it.
    pub pid: i32,
    /// Names it for ever; close-on-exec.
    pub pidfd: OwnedFd,
}

/// Makes a child that runs `main` on a copy of this process's memory and exits with its result.
///
/// `cgroup` is the directory of the v2 cgroup that the child is born in. With [`flags::PARENT`]
/// the child is the caller's sibling and signals its end as the caller would.
///
/// # Errors
/// What `clone3` says.
pub fn clone3(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    main: impl FnOnce() -> i32,
) -> Result<Process, Errno> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | flags::PIDFD,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: exit_signal(flags),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= flags::INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: `args` is a valid clone_args of the size given and `pidfd` outlives the call. Without
    // CLONE_VM, CLONE_FILES or a stack the child gets copies of everything, like a fork's; the shim
    // makes no threads, so no lock is held by someone who is not there in the child.
    let pid = result(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(&args),
            size_of::<CloneArgs>(),
        )
    })?;
    if pid == 0 {
        exit_now(main());
    }
    // SAFETY: the kernel has just stored this descriptor for us (CLONE_PIDFD) and nobody else has it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Process {
        pid: i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?,
        pidfd,
    })
}

/// Makes a child as `fork` does: by the oldest call there is for it on every machine, which filters allow
/// that have never heard of `clone3`.
///
/// # Errors
/// What the kernel says.
pub fn fork(main: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    let signal = libc::c_long::from(libc::SIGCHLD);
    // SAFETY: with no flag but the signal of its end the child gets copies of everything, on any
    // machine whatever the order of the other arguments; the shim makes no threads, so no lock is held
    // by someone who is not there in the child.
    let pid = result(unsafe { libc::syscall(libc::SYS_clone, signal, 0, 0, 0, 0) })?;
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) => Ok(pid),
        None => exit_now(main()),
    }
}

fn exit_signal(flags: u64) -> u64 {
    if flags & flags::PARENT != 0 {
        return 0;
    }
    u64::from(libc::SIGCHLD.unsigned_abs())
}

/// Ends this process at once: no destructor, no exit handler, no flush.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no precondition and does not return.
    unsafe { libc::_exit(code) }
}

/// Leaves namespaces for new ones. Not for `FILES`: that would be about descriptors.
///
/// # Errors
/// What `unshare` says.
pub fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    let namespaces = flags.difference(UnshareFlags::FILES);
    // SAFETY: the call is unsafe only with FILES, which was taken out.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    #[test]
    fn a_clone_runs_its_closure_and_exits_with_the_result() {
        let child = clone3(0, None, || 42).unwrap();
        let status = waitid(
            rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        )
        .unwrap()
        .unwrap();
        assert_eq!(status.exit_status(), Some(42));
    }
}
