//! Settings of glibc's allocator for a process that lives long and does little.

/// The size from which an allocation gets pages of its own, in bytes.
const OWN_PAGES: i32 = 32 * 1024;

/// Makes freed memory go back to the kernel at once: what is large has pages of its own, and the
/// top of the heap is trimmed. Without it, one busy second of a container's log would stay
/// resident for the container's life.
pub fn give_back() {
    // SAFETY: mallopt may be called at any time; it only stores a threshold.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, OWN_PAGES) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TOP_PAD, 0) };
}
