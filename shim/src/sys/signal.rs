//! Signals of a process that is about to execute a program.

use super::result;
use rustix::io::Errno;

/// Gives every signal its default action and unblocks all: both outlive `execve`, and the Rust
/// runtime ignores SIGPIPE.
///
/// # Errors
/// What `sigprocmask` says.
pub fn reset() -> Result<(), Errno> {
    for signal in 1..=64 {
        default_action(signal);
    }
    unblock_all()
}

/// A write to a pipe or socket that nobody reads fails with `EPIPE`, and does no more.
pub fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is always a valid action, and no handler of anyone's is lost that the program
    // has set: it sets none.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Asks the kernel itself: glibc refuses to touch the two signals that it keeps, and an ignored one
/// among them would be handed on.
fn default_action(signal: libc::c_long) {
    // The kernel's `struct sigaction`, all zero: SIG_DFL, no flags, an empty mask.
    let default = [0u64; 4];
    // SAFETY: `default` is at least as large as that struct (32 bytes at most), is only read, and a
    // null old action is allowed. KILL and STOP answer EINVAL, which changes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            default.as_ptr(),
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

fn unblock_all() -> Result<(), Errno> {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: `none` is writable and has the size of a sigset_t.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` was initialised by sigemptyset; a null old set is allowed.
    let returned =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
    result(returned.into()).map(|_| ())
}
