//! Signals that a process reads from a descriptor, or waits for, instead of being interrupted.

use rustix::fd::{FromRawFd, OwnedFd};
use std::io;
use std::mem::MaybeUninit;

/// A signal that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub signal: i32,
    /// Who sent it, as this process' PID namespace sees them; 0 for one outside of it, and for
    /// the kernel.
    pub sender: i32,
}

/// Blocks these signals for the calling thread and gives a descriptor, non-blocking and
/// close-on-exec, that is readable while one of them is pending.
///
/// # Errors
/// What `sigprocmask` and `signalfd` say.
pub fn descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals)?;
    block(&set)?;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: -1 asks for a new descriptor, and the set is initialised.
    let fd = unsafe { libc::signalfd(-1, &raw const set, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Empties a descriptor of [`descriptor`], and says whether any other signal than SIGCHLD was in it. Whose end a
/// SIGCHLD tells is for the caller to find out from the state of the world, since equal ones are merged.
pub fn clear(fd: &OwnedFd) -> bool {
    const RECORD: usize = size_of::<libc::signalfd_siginfo>();
    let mut records = [0u8; RECORD * 4];
    let mut others = false;
    while let Ok(got @ 1..) = rustix::io::read(fd, &mut records) {
        // Its number is what a record begins with (signalfd(2)).
        let numbers = records[..got]
            .chunks_exact(RECORD)
            .map(|record| &record[..4]);
        others |= numbers
            .into_iter()
            .any(|number| number != libc::SIGCHLD.to_ne_bytes());
    }
    others
}

/// Blocks these signals for the calling thread, so that [`wait`] may take them.
///
/// # Errors
/// What `sigprocmask` says.
pub fn hold(signals: &[i32]) -> io::Result<()> {
    block(&set_of(signals)?)
}

/// Waits until one of these signals, which must be held, arrives.
///
/// # Errors
/// What `sigwaitinfo` says; `Interrupted` is left to the caller.
pub fn wait(signals: &[i32]) -> io::Result<Arrived> {
    let set = set_of(signals)?;
    let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: the set is initialised, and `info` has room for one siginfo_t.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, info.as_mut_ptr()) };
    if signal < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sigwaitinfo has succeeded, so the kernel has filled it.
    let info = unsafe { info.assume_init() };
    // SAFETY: si_pid is set for signals sent by processes and for SIGCHLD; for others it reads
    // the zeroes that the kernel puts into the union.
    let sender = unsafe { info.si_pid() };
    Ok(Arrived { signal, sender })
}

fn block(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialised; the old mask is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_BLOCK, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` has room for one sigset_t, which sigemptyset initialises.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset cannot fail for a valid pointer, so the set is initialised.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: the set is initialised; an invalid number is refused by the call.
        if unsafe { libc::sigaddset(&raw mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}
