//! The uncompressed layer as a stream of blocks that is hashed on the way.
//!
//! Every byte passes once: decoder → this buffer → hash and file. Invariant: what a caller was
//! given has been hashed, and the whole stream is hashed when [`Stream::finish`] returns.

use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::error::Error;
use crate::id::Digest;

/// Size of a tar block.
pub(super) const BLOCK: usize = 512;
/// Large enough that a write of a big file is one call per 256 KiB.
const BUFFER: usize = 256 * 1024;

/// A reader of uncompressed bytes with a hash, a count and a limit.
pub(super) struct Stream<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    hash: Sha256,
    total: u64,
    limit: u64,
}

/// What the inner reader's failures mean; the decoder knows it.
pub(super) trait Source: Read {
    /// Turns a failed read into the layer's error.
    fn explain(&mut self, error: std::io::Error) -> Error;
}

impl<R: Source> Stream<R> {
    /// A stream that refuses to give more than `limit` bytes.
    pub fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            buffer: vec![0; BUFFER].into_boxed_slice(),
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
        let read = loop {
            match self.inner.read(&mut self.buffer) {
                Ok(read) => break read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.inner.explain(error)),
            }
        };
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
