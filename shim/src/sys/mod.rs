//! The kernel calls that rustix does not wrap, one file per family.
//!
//! Invariant: this is the only place with `unsafe`. What leaves here is safe to call: descriptors
//! are owned or borrowed, every length is taken from a slice, and nothing is kept by the kernel
//! after a call returns.
#![expect(
    unsafe_code,
    reason = "the kernel's calling convention has no safe form; all of it is here"
)]

pub mod bpf;
pub mod clock;
pub mod clone;
pub mod descriptors;
pub mod exec;
pub mod heap;
pub mod keyring;
pub mod mount;
pub mod pidfd;
pub mod quota;
pub mod scheduling;
pub mod search;
pub mod seccomp;
pub mod signal;
pub mod signals;
pub mod verity;

use rustix::io::Errno;

/// What a raw call returned: a value, or the errno that glibc keeps for the thread.
fn result(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned >= 0 {
        return Ok(returned);
    }
    let errno = std::io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO)))
}
