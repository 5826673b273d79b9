//! Session keyrings, from `linux/keyctl.h`.

use super::result;
use rustix::io::Errno;
use std::ffi::CStr;

const JOIN_SESSION_KEYRING: libc::c_long = 1;
const SETPERM: libc::c_long = 5;
/// `KEY_POS_ALL`, and `KEY_USR_` `VIEW`, `READ`, `SEARCH` and `LINK`: what a session keyring has from
/// the start, and that its user may find it.
const FOUND_BY_USER: libc::c_long = 0x3f00_0000 | 0x001b_0000;

/// A keyring's serial number.
#[derive(Debug, Clone, Copy)]
pub struct Keyring(libc::c_long);

/// Joins the session keyring of this name that the user may find, or makes one, so that the host's
/// keys are out of reach.
///
/// # Errors
/// What `keyctl` says; `NOSYS` on a kernel without keys, `DQUOT` when the user has too many.
pub fn join_session(name: &CStr) -> Result<Keyring, Errno> {
    // SAFETY: the operation takes one string that ends in NUL and only reads it.
    result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })
        .map(Keyring)
}

/// Lets the keyring's user find it by its name.
///
/// # Errors
/// What `keyctl` says.
pub fn let_user_find(keyring: Keyring) -> Result<(), Errno> {
    // SAFETY: the operation takes two numbers and touches no memory of this process.
    result(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, keyring.0, FOUND_BY_USER) })
        .map(|_| ())
}
