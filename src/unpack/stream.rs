//! The uncompressed layer as a stream of blocks that is hashed on the way.
//!
//! Every byte passes once: decoder → this buffer → hash and file. Invariant: what a caller was
//! given has been hashed, and the whole stream is hashed when [`Stream::finish`] returns.

use sha2::{Digest as _, Sha256};

use super::error::Error;
use crate::id::Digest;

/// Size of a tar block.
pub(super) const BLOCK: usize = 512;
/// Large enough that a write of a big file is one call per 256 KiB.
const BUFFER: usize = 256 * 1024;

/// Uncompressed bytes on their way.
pub(super) type Buffer = Box<[u8]>;

/// A buffer without content.
pub(super) fn buffer() -> Buffer {
    vec![0; BUFFER].into_boxed_slice()
}

/// A reader of uncompressed bytes with a hash, a count and a limit.
pub(super) struct Stream<R> {
    inner: R,
    buffer: Buffer,
    start: usize,
    end: usize,
    hash: Sha256,
    total: u64,
    limit: u64,
}

/// Where uncompressed bytes come from.
pub(super) trait Source {
    /// Puts the next bytes into the buffer, or another buffer with them in its place; gives how many
    /// there are, none at the end.
    ///
    /// # Errors
    /// As the layer's compression or its download says.
    fn fill(&mut self, buffer: &mut Buffer) -> Result<usize, Error>;

    /// Reads the blob's end and gives its digest and length.
    ///
    /// # Errors
    /// As the download says.
    fn finish(self) -> Result<(Digest, u64), Error>;
}

impl<R: Source> Stream<R> {
    /// A stream that refuses to give more than `limit` bytes.
    pub fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            buffer: buffer(),
            start: 0,
            end: 0,
            hash: Sha256::new(),
            total: 0,
            limit,
        }
    }

    /// How many bytes have been given.
    pub fn position(&self) -> u64 {
        self.total - (self.end - self.start) as u64
    }

    /// Makes at least one byte available, if there is one.
    fn fill(&mut self) -> Result<bool, Error> {
        if self.start < self.end {
            return Ok(true);
        }
        self.start = 0;
        self.end = 0;
        let read = self.inner.fill(&mut self.buffer)?;
        self.end = read;
        self.hash.update(&self.buffer[..read]);
        self.total += read as u64;
        if self.total > self.limit {
            return Err(Error::TooLarge { limit: self.limit });
        }
        Ok(read > 0)
    }

    /// The next 1 to `most` bytes; an error at the end of the stream.
    pub fn chunk(&mut self, most: u64) -> Result<&[u8], Error> {
        if !self.fill()? {
            return Err(Error::Malformed("ends inside an entry".into()));
        }
        let available = self.end - self.start;
        let take = usize::try_from(most).map_or(available, |most| most.min(available));
        self.start += take;
        Ok(&self.buffer[self.start - take..self.start])
    }

    /// The next block, or `None` at the end of the stream.
    pub fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if !self.fill()? {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        Ok(Some(block))
    }

    /// Fills `into` wholly.
    pub fn exact(&mut self, into: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < into.len() {
            let chunk = self.chunk((into.len() - done) as u64)?;
            into[done..done + chunk.len()].copy_from_slice(chunk);
            done += chunk.len();
        }
        Ok(())
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            count -= self.chunk(count)?.len() as u64;
        }
        Ok(())
    }

    /// Reads what is left (padding after the archive's end) and gives digest, length and reader.
    pub fn finish(mut self) -> Result<(Digest, u64, R), Error> {
        self.start = self.end;
        while self.fill()? {
            self.start = self.end;
        }
        Ok((Digest::finish(self.hash), self.total, self.inner))
    }
}
