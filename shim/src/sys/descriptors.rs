//! Closing many descriptors at once.

use super::result;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// Closes every descriptor but 0, 1, 2 and those given.
///
/// For a process that owns none of the others any more (it never drops the values that do): one
/// that was dropped would later close a number that has become something else.
///
/// # Errors
/// What `close_range` says.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut first = 3;
    // Without memory of its own: a fork may call it.
    while let Some(next) = next_of(kept, first) {
        if next > first {
            close_range(first, next - 1)?;
        }
        first = next + 1;
    }
    close_range(first, u32::MAX)
}

/// The smallest of these numbers from `first` on.
fn next_of(kept: &[BorrowedFd<'_>], first: u32) -> Option<u32> {
    let numbers = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs());
    numbers.filter(|number| *number >= first).min()
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the call reads no memory. That nobody goes on using what is closed is the condition
    // above; a process that breaks it gets errors on its own descriptors, not undefined behaviour.
    result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(|_| ())
}
