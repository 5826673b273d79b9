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
        // SAFETY: SIG_DFL is always a valid action. Signals that have none to set (KILL, STOP, and
        // those that glibc keeps) answer EINVAL, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_all()
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
