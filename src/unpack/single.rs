//! A blob that is one file, with its bytes as they are, whatever they look like: what artifacts are
//! made of.

use std::{
    io::{ErrorKind, Read},
    path::Path,
};

use super::{
    Expected, Unpacked,
    apply::{Applier, Limits},
    error::Error,
    stream::{Buffer, Source, Stream},
    tar::{Entry, EntryKind},
    verify_blob,
};
use crate::id::Digest;

/// Bytes without a compression.
struct Raw<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Source for Raw<R> {
    fn fill(&mut self, buffer: &mut Buffer) -> Result<usize, Error> {
        loop {
            match self.inner.read(buffer) {
                Ok(read) => {
                    self.count += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.count;
                    return Err(Error::Read { offset, source });
                }
            }
        }
    }

    /// The stream's own digest is the blob's.
    fn finish(self) -> Result<(Digest, u64), Error> {
        Ok((Digest::of(b""), self.count))
    }
}

/// Puts a blob into an empty directory as a file of this name, and verifies it on the way. Blocks.
///
/// # Errors
/// As [`super::unpack`] but for its diff id, which nobody looks at; `Name` where it is no name of a
/// file.
pub fn unpack_file(
    reader: impl Read,
    directory: &Path,
    expected: &Expected,
    name: &str,
) -> Result<Unpacked, Error> {
    let size = expected.blob.as_ref().map_or(0, |(_, size)| *size);
    let raw = Raw {
        inner: reader,
        count: 0,
    };
    let mut stream = Stream::new(raw, u64::MAX);
    let mut applier = Applier::new(directory, Limits::DEFAULT, expected.devices)?;
    applier.entry(&entry(name, size), &mut stream)?;
    let (digest, length, _) = stream.finish()?;
    verify_blob(expected, digest, length)?;
    applier.finish()
}

fn entry(name: &str, size: u64) -> Entry {
    Entry {
        path: name.as_bytes().to_vec(),
        kind: EntryKind::File,
        link: Vec::new(),
        size,
        mode: 0o644,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: (0, 0),
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::image_policy::DeviceNodes;

    fn put(bytes: &[u8], blob: &[u8], size: usize) -> Result<Vec<u8>, Error> {
        let expected = Expected {
            blob: Some((Digest::of(blob), size as u64)),
            diff_id: Digest::of(b""),
            limit: u64::MAX,
            devices: DeviceNodes::Refuse,
        };
        let tree = tempfile::TempDir::new().unwrap();
        unpack_file(bytes, tree.path(), &expected, "a/b")?;
        Ok(std::fs::read(tree.path().join("a/b")).unwrap())
    }

    #[test]
    fn a_blob_becomes_a_file_whatever_it_looks_like() {
        let gzip = b"\x1f\x8b\x08 and no more of it";
        assert_eq!(put(gzip, gzip, gzip.len()).unwrap(), gzip);
        assert_eq!(put(b"", b"", 0).unwrap(), b"");
    }

    #[test]
    fn bytes_that_are_not_the_blobs_are_refused() {
        for (bytes, size) in [
            (&b"other"[..], 5),
            (b"right", 4),
            (b"righ", 5),
            (b"right", 6),
        ] {
            assert!(put(bytes, b"right", size).is_err(), "{bytes:?} {size}");
        }
    }
}
