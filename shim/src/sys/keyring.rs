//! Session keyrings, from `linux/keyctl.h`.

use super::result;
use rustix::io::Errno;
use std::ffi::CStr;

const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Makes a session keyring of this name and joins it, so that the host's keys are out of reach.
///
/// # Errors
/// What `keyctl` says; `NOSYS` on a kernel without keys, `DQUOT` when the user has too many.
pub fn join_session(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the operation takes one string that ends in NUL and only reads it.
    result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })
        .map(|_| ())
}
