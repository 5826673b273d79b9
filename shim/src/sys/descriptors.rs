//! Closing many descriptors at once.

use super::result;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// Closes every descriptor but 0, 1, 2 and the one given.
///
/// For a process that is about to execute a program and owns none of the others any more: a value
/// that did would later close a number that has become something else.
///
/// # Errors
/// What `close_range` says.
pub fn close_all_but(kept: BorrowedFd<'_>) -> Result<(), Errno> {
    let kept = kept.as_raw_fd().unsigned_abs();
    if kept > 3 {
        close_range(3, kept - 1)?;
    }
    close_range(3.max(kept + 1), u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the call reads no memory. That nobody goes on using what is closed is the condition
    // above; a process that breaks it gets errors on its own descriptors, not undefined behaviour.
    result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(|_| ())
}
