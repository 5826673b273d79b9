//! The quick search for one byte, as the C library has it for each processor.

/// The index of the first `byte` in `text`.
#[must_use]
pub fn find(byte: u8, text: &[u8]) -> Option<usize> {
    // SAFETY: the pointer and the length are those of one slice, which is readable throughout.
    let hit = unsafe { libc::memchr(text.as_ptr().cast(), i32::from(byte), text.len()) };
    (!hit.is_null()).then(|| hit.addr() - text.as_ptr().addr())
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_of_several_is_found_and_nothing_behind_the_slice() {
        let text = b"a\nb\nc";
        assert_eq!(find(b'\n', text), Some(1));
        assert_eq!(find(b'\n', &text[2..]), Some(1));
        assert_eq!(find(b'c', &text[..4]), None);
        assert_eq!(find(b'c', &[]), None);
    }
}
