//! `seccomp(SECCOMP_SET_MODE_FILTER)`.

use super::result;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;

const SET_MODE_FILTER: libc::c_long = 1;

/// One instruction of classic BPF: `struct sock_filter` of `linux/filter.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How far to jump when the comparison holds.
    pub jt: u8,
    /// How far to jump when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// `struct sock_fprog` of `linux/filter.h`.
#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

/// Puts a filter on this thread, for ever. `flags` are `SECCOMP_FILTER_FLAG_*`.
///
/// # Errors
/// What the kernel says: `ACCES` without CAP_SYS_ADMIN and no_new_privs, `INVAL` for a program
/// that it does not accept.
pub fn set_filter(program: &[Instruction], flags: u32) -> Result<(), Errno> {
    set(program, flags).map(drop)
}

/// The same with `SECCOMP_FILTER_FLAG_NEW_LISTENER` among the flags: the listener, close-on-exec.
///
/// # Errors
/// As above; `BUSY` where there is a listener already.
pub fn set_filter_with_listener(program: &[Instruction], flags: u32) -> Result<OwnedFd, Errno> {
    let listener = i32::try_from(set(program, flags)?).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: with this flag the call answers with a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn set(program: &[Instruction], flags: u32) -> Result<libc::c_long, Errno> {
    let header = Program {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr(),
    };
    // SAFETY: `header` describes exactly the slice, which outlives the call; the kernel copies it.
    result(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            std::ptr::from_ref(&header),
        )
    })
}
