//! Bytes of a stream → entries of the CRI log.
//!
//! ```text
//! 2026-11-22T11:42:27.123456789Z stdout F a whole line, or the last part of one
//! 2026-11-22T11:42:27.123456789Z stdout P a part; what follows it belongs to the same line
//! ```
//! A line is cut after [`LONGEST`] bytes. What comes without a newline is held back until its
//! newline, the cut or the end of the stream decides: at the end it is a `P`, because a reader
//! gives back a `P` without a newline, which is what the container wrote.
//!
//! Invariant: an entry has exactly one newline, its last byte; the bytes before it are the
//! container's, untouched.

use super::Stream;
use super::stamp::Stamp;
use crate::sys::search;

/// The most bytes of a line that one entry holds, as the kubelet's readers expect.
pub const LONGEST: usize = 16 * 1024;

/// One stream's lines.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    rest: Vec<u8>,
}

impl Lines {
    /// The lines of this stream.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    /// Which stream it is.
    #[must_use]
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Puts the entries of `data` into `batch`; how many there are.
    pub fn feed(&mut self, stamp: &Stamp, mut data: &[u8], batch: &mut Vec<u8>) -> u64 {
        let mut entries = 0;
        while let Some(taken) = self.next(stamp, data, batch) {
            data = &data[taken..];
            entries += 1;
        }
        self.rest.extend_from_slice(data);
        entries
    }

    /// The stream has ended: what it left without a newline becomes an entry. How many that makes.
    pub fn finish(&mut self, stamp: &Stamp, batch: &mut Vec<u8>) -> u64 {
        let left = !self.rest.is_empty();
        if left {
            self.entry(stamp, b'P', &[], batch);
        }
        u64::from(left)
    }

    /// Makes the next entry, where there is a whole one; how many bytes it took.
    fn next(&mut self, stamp: &Stamp, data: &[u8], batch: &mut Vec<u8>) -> Option<usize> {
        let room = LONGEST - self.rest.len();
        let within = &data[..data.len().min(room + 1)];
        if let Some(end) = search::find(b'\n', within) {
            self.entry(stamp, b'F', &data[..end], batch);
            return Some(end + 1);
        }
        if within.len() > room {
            self.entry(stamp, b'P', &data[..room], batch);
            return Some(room);
        }
        None
    }

    fn entry(&mut self, stamp: &Stamp, tag: u8, data: &[u8], batch: &mut Vec<u8>) {
        batch.extend_from_slice(stamp);
        batch.push(b' ');
        batch.extend_from_slice(self.stream.name());
        batch.extend_from_slice(&[b' ', tag, b' ']);
        if !self.rest.is_empty() {
            batch.extend_from_slice(&std::mem::take(&mut self.rest));
        }
        batch.extend_from_slice(data);
        batch.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = *b"2026-11-22T11:42:27.123456789Z";

    /// What a reader makes of the batch: tag and bytes of each entry.
    fn entries(batch: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let head = STAMP.len() + " stdout ".len();
        let whole = batch.strip_suffix(b"\n").unwrap_or(batch);
        whole
            .split(|&b| b == b'\n')
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                assert_eq!(&entry[..STAMP.len()], STAMP);
                assert_eq!(&entry[STAMP.len()..head], b" stdout ");
                assert_eq!(entry[head + 1], b' ');
                (entry[head], entry[head + 2..].to_vec())
            })
            .collect()
    }

    fn fed(parts: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
        let mut lines = Lines::new(Stream::Stdout);
        let (mut batch, mut count) = (Vec::new(), 0);
        for part in parts {
            count += lines.feed(&STAMP, part, &mut batch);
        }
        count += lines.finish(&STAMP, &mut batch);
        let entries = entries(&batch);
        assert_eq!(count, entries.len() as u64);
        entries
    }

    #[test]
    fn whole_lines_are_full_also_when_read_in_pieces() {
        let want = [
            (b'F', b"one".to_vec()),
            (b'F', b"".to_vec()),
            (b'F', b"two".to_vec()),
        ];
        assert_eq!(fed(&[b"one\n\ntwo\n"]), want);
        assert_eq!(fed(&[b"o", b"ne", b"\n\nt", b"wo\n"]), want);
    }

    #[test]
    fn what_has_no_newline_at_the_end_is_partial() {
        assert_eq!(
            fed(&[b"a\nrest"]),
            [(b'F', b"a".to_vec()), (b'P', b"rest".to_vec())]
        );
        assert_eq!(fed(&[b"a\n"]), [(b'F', b"a".to_vec())]);
    }

    #[test]
    fn a_line_of_exactly_the_longest_is_full_and_one_more_byte_cuts_it() {
        let mut line = vec![b'x'; LONGEST];
        line.push(b'\n');
        assert_eq!(fed(&[&line]), [(b'F', line[..LONGEST].to_vec())]);
        line.insert(0, b'y');
        let want = [(b'P', line[..LONGEST].to_vec()), (b'F', b"x".to_vec())];
        assert_eq!(fed(&[&line]), want);
        assert_eq!(fed(&[&line[..7], &line[7..LONGEST + 1], b"\n"]), want);
    }

    #[test]
    fn a_long_line_is_parts_and_a_full_end() {
        let line = [vec![b'z'; 3 * LONGEST + 5], vec![b'\n']].concat();
        let got = fed(&[&line]);
        let tags: Vec<u8> = got.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(tags, *b"PPPF");
        let joined: Vec<u8> = got.into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert_eq!(joined, line[..line.len() - 1]);
    }

    #[test]
    fn any_byte_but_newline_passes_untouched() {
        let bytes: Vec<u8> = (0..=255).filter(|&b| b != b'\n').collect();
        assert_eq!(fed(&[&bytes, b"\n"]), [(b'F', bytes)]);
    }
}
