//! From the blob's bytes to the tar's: the format is told by its first bytes, not by the media
//! type, which builders and registries are known to get wrong.
//!
//! gzip is flate2 on zlib-rs (several members, as pigz and eStargz write, are one stream); zstd is
//! the reference library (several frames, skippable ones too).
//!
//! What there is to choose from, in MB of a 286 MB layer that one core makes in a second (EPYC with
//! SHA-NI): inflate of zlib-rs 0.6.8 660, of ISA-L 2.30 765, of libdeflate 1.26, which needs the blob
//! and the layer whole, 780. ISA-L would save 6 % of a pull's processor time; its bindings want
//! autotools, libtool and nasm on every machine that builds Corten. SHA-256 is 1,750 with `sha2` and
//! with `ring` alike, CRC-32 13,900, XXH3 23,000.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::{
    error::Error,
    stream::{Buffer, Source},
    window::{LONGEST_HEADER, Window},
};
use crate::id::Digest;

/// Compressed bytes are read in pieces of this size.
const INPUT: usize = 64 * 1024;

/// A reader whose first bytes were looked at.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// The compressed side: counts and hashes what the decoder takes.
pub(super) struct Hashed<R> {
    inner: Whole<R>,
    hash: Sha256,
    count: u64,
    failed: bool,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).inspect_err(|error| {
            self.failed |= error.kind() != io::ErrorKind::Interrupted;
        })?;
        self.hash.update(&buffer[..read]);
        self.count += read as u64;
        Ok(read)
    }
}

type Input<R> = BufReader<Hashed<R>>;

/// A decoder chosen by the first bytes of its input.
pub(super) enum Decoder<R: Read> {
    /// `1f 8b`.
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    /// `28 b5 2f fd`, or a skippable frame.
    Zstd {
        /// Dropped before the window that it uses.
        decoder: zstd::stream::read::Decoder<'static, Input<R>>,
        /// What it may take.
        _window: Window,
    },
    /// Anything else: it has to be a tar.
    Plain(Input<R>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes and chooses.
    pub fn detect(reader: R) -> Result<Self, Error> {
        let (beginning, reader) = begin(reader)?;
        let hashed = Hashed {
            inner: reader,
            hash: Sha256::new(),
            count: 0,
            failed: false,
        };
        let input = BufReader::with_capacity(INPUT, hashed);
        Ok(match beginning[..] {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                zstd_decoder(input, &beginning)?
            }
            _ => Self::Plain(input),
        })
    }

    fn format(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd { .. } => "zstd",
            Self::Plain(_) => "none",
        }
    }

    fn hashed(&self) -> &Hashed<R> {
        match self {
            Self::Gzip(decoder) => decoder.get_ref().get_ref(),
            Self::Zstd { decoder, .. } => decoder.get_ref().get_ref(),
            Self::Plain(input) => input.get_ref(),
        }
    }

    /// Some of the next bytes; none at the end.
    pub fn some(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.read(into) {
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    /// Turns a failed read into the layer's error.
    fn explain(&self, source: io::Error) -> Error {
        let hashed = self.hashed();
        if hashed.failed {
            return Error::Read {
                offset: hashed.count,
                source,
            };
        }
        Error::Decompress {
            format: self.format(),
            source,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd { decoder, .. } => decoder.read(buffer),
            Self::Plain(input) => input.read(buffer),
        }
    }
}

impl<R: Read> Source for Decoder<R> {
    fn fill(&mut self, buffer: &mut Buffer) -> Result<usize, Error> {
        self.some(buffer)
    }

    fn finish(self) -> Result<(Digest, u64), Error> {
        let mut input = match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd { decoder, .. } => decoder.finish(),
            Self::Plain(input) => input,
        };
        let offset = input.get_ref().count;
        io::copy(&mut input, &mut io::sink()).map_err(|source| Error::Read { offset, source })?;
        let hashed = input.into_inner();
        Ok((Digest::finish(hashed.hash), hashed.count))
    }
}

/// The first bytes, and the reader as if they had not been taken.
fn begin<R: Read>(mut reader: R) -> Result<(Vec<u8>, Whole<R>), Error> {
    let mut taken = Vec::with_capacity(LONGEST_HEADER);
    reader
        .by_ref()
        .take(LONGEST_HEADER as u64)
        .read_to_end(&mut taken)
        .map_err(|source| Error::Read { offset: 0, source })?;
    Ok((taken.clone(), Cursor::new(taken).chain(reader)))
}

fn zstd_decoder<R: Read>(input: Input<R>, beginning: &[u8]) -> Result<Decoder<R>, Error> {
    let failed = |source| Error::Decompress {
        format: "zstd",
        source,
    };
    let window = Window::of(beginning).map_err(failed)?;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(failed)?;
    decoder.window_log_max(window.log()).map_err(failed)?;
    Ok(Decoder::Zstd {
        decoder,
        _window: window,
    })
}
