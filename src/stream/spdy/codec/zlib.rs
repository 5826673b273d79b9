//! The compression of header blocks: one zlib stream in each direction for the whole session, with
//! a dictionary that both sides know, cut at each block's end.
//!
//! What is written is not compressed at all: stored blocks are a valid zlib stream, and a server
//! sends nothing but empty replies, which are shorter so. It also saves the quarter of a megabyte
//! that a compressor holds.

use bytes::{BufMut, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

use super::{CodecError, dictionary};

/// The reading direction.
pub(super) struct Inflate {
    stream: Decompress,
    limit: usize,
}

impl Inflate {
    /// `limit`: the most bytes of a block when decompressed.
    pub fn new(limit: usize) -> Self {
        Self {
            stream: Decompress::new(true),
            limit,
        }
    }

    /// The next block, which is all of `compressed`.
    pub fn block(&mut self, mut compressed: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut block = Vec::with_capacity(self.limit + 1);
        loop {
            let done = self.step(&mut compressed, &mut block)?;
            if block.len() > self.limit {
                return Err(CodecError::BlockTooLong(self.limit));
            }
            if done {
                return Ok(block);
            }
        }
    }

    /// Says whether all is read and written.
    fn step(&mut self, compressed: &mut &[u8], block: &mut Vec<u8>) -> Result<bool, CodecError> {
        let before = self.stream.total_in();
        let result = self
            .stream
            .decompress_vec(compressed, block, FlushDecompress::Sync);
        let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(usize::MAX);
        *compressed = compressed.get(taken..).unwrap_or_default();
        match result {
            Ok(Status::Ok) => Ok(compressed.is_empty()),
            Ok(Status::BufError) if compressed.is_empty() => Ok(true),
            Ok(Status::BufError) => Err(broken("it makes no progress")),
            Ok(Status::StreamEnd) => Err(broken("the stream ends before the session")),
            Err(error) => self.dictionary(error.needs_dictionary(), &error.to_string()),
        }
    }

    fn dictionary(&mut self, asked: Option<u32>, reason: &str) -> Result<bool, CodecError> {
        match asked {
            Some(id) if id == dictionary::ID => {
                let given = self.stream.set_dictionary(&dictionary::bytes());
                given.map_err(|error| broken(&error.to_string()))?;
                Ok(false)
            }
            Some(_) => Err(broken("it asks for a dictionary that is not SPDY/3's")),
            None => Err(broken(reason)),
        }
    }
}

fn broken(reason: &str) -> CodecError {
    CodecError::Zlib(reason.to_owned())
}

/// The writing direction.
#[derive(Debug, Default)]
pub(super) struct Stored {
    begun: bool,
}

/// Deflate with a window of 32 KiB, a dictionary follows; the two bytes are a multiple of 31.
const HEAD: [u8; 2] = [0x78, 0x20];
/// A stored block that is not the last one.
const STORED: u8 = 0;
/// An empty stored block. Go's inflate gives out what a stored block said only when it comes to the
/// next one, and takes the end of a frame before that for the end of the stream.
const FLUSH: [u8; 5] = [STORED, 0, 0, 0xff, 0xff];
/// The longest that a stored block can be.
const LONGEST: usize = u16::MAX as usize;

impl Stored {
    /// Appends a block to `out`.
    pub fn put(&mut self, block: &[u8], out: &mut BytesMut) {
        if !self.begun {
            out.put_slice(&HEAD);
            out.put_u32(dictionary::ID);
            self.begun = true;
        }
        for part in block.chunks(LONGEST) {
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            out.put_u8(STORED);
            out.put_u16_le(length);
            out.put_u16_le(!length);
            out.put_slice(part);
        }
        out.put_slice(&FLUSH);
    }
}
