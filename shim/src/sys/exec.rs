//! `execve`.

use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// The null-terminated array of pointers that `execve` takes, and the strings that it points to.
pub struct Pointers<'a> {
    strings: std::marker::PhantomData<&'a [CString]>,
    array: Vec<*const libc::c_char>,
}

impl<'a> Pointers<'a> {
    /// Points to `strings`.
    #[must_use]
    pub fn new(strings: &'a [CString]) -> Self {
        let array = strings.iter().map(|string| string.as_ptr());
        Self {
            strings: std::marker::PhantomData,
            array: array.chain([std::ptr::null()]).collect(),
        }
    }
}

/// Replaces this process's program; returns only when that failed.
#[must_use]
pub fn execve(path: &CStr, argv: &Pointers<'_>, envp: &Pointers<'_>) -> Errno {
    // SAFETY: `path` ends in NUL; both arrays end in a null pointer and point to strings that their
    // lifetimes keep; execve only reads them.
    let returned = unsafe { libc::execve(path.as_ptr(), argv.array.as_ptr(), envp.array.as_ptr()) };
    super::result(returned.into()).err().unwrap_or(Errno::IO)
}
