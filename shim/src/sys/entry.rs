//! Where the C library hands the process over: part of the program, not of the library.

#![expect(
    unsafe_code,
    reason = "a symbol of a fixed name is the linker's only way to it"
)]

use std::ffi::{c_char, c_int};

/// The program. std finds the arguments by itself: glibc hands them to its initialiser too.
// SAFETY: no other `main` is linked into this program (`no_main`), and the signature is C's.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    crate::start().into()
}
