//! A stream of bytes and a directory become a layer.
//!
//! ```text
//! download ─feed──▶ hash (blob digest) ─▶ decompress ─▶ hash (diff id) ─▶ tar ─▶ files
//! ```
//! One pass, no temporary copy; everything runs on the blocking thread that calls [`unpack`], or
//! the first half of it on one more ([`unpack_on_two`]).
//! Layers are hostile input. Invariants: nothing is made outside the directory; memory is
//! bounded, whatever the layer; on success both digests are those that were promised, and on
//! failure the caller throws the directory away.

mod apply;
mod decoding;
mod decompress;
mod endings;
mod error;
mod feed;
mod members;
mod path;
mod pax;
mod root;
mod single;
mod stream;
mod sums;
mod tar;
#[cfg(test)]
mod tests;
mod window;

use std::{io::Read, path::Path, path::PathBuf};

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use self::{
    apply::{Applier, Limits},
    decoding::Decoding,
    decompress::Decoder,
    stream::{Source, Stream},
    tar::Archive,
};
pub use self::{
    error::Error,
    feed::{FeedReader, Feeder, feed},
    members::{Member, Members, scratch_file},
    single::unpack_file,
    sums::{Content, Contents, Sum},
};
use crate::{id::Digest, model::image_policy::DeviceNodes};

/// What the manifest and the config say that a layer is.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Digest and size of the blob as it travels; `None` where the source does not say (the
    /// layers of a docker-archive).
    pub blob: Option<(Digest, u64)>,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Uncompressed bytes after which it is taken for a bomb.
    pub limit: u64,
    /// Whether it may hold device nodes.
    pub devices: DeviceNodes,
}

/// What unpacking left for the commit to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// What the tree takes.
    pub usage: Usage,
    /// Directories that the layer needs and does not mention, parents first, the root as the
    /// empty path. A lower layer knows their attributes.
    pub implied: Vec<PathBuf>,
    /// Hard links whose target is not in this layer.
    pub links: Vec<PendingLink>,
    /// What it says is deleted from lower layers, without what it replaced itself.
    pub whiteouts: Vec<PathBuf>,
    /// The layer hides all lower ones.
    pub opaque_root: bool,
    /// What was written to its files.
    pub contents: Contents,
}

/// A hard link to a file of a lower layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingLink {
    /// The name to make.
    pub path: PathBuf,
    /// The file that it names.
    pub target: PathBuf,
}

/// Disk space and inodes of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Usage {
    const BLOCK: u64 = 4096;

    fn add_file(&mut self, size: u64) {
        self.bytes += size.div_ceil(Self::BLOCK) * Self::BLOCK;
        self.inodes += 1;
    }

    fn add_directory(&mut self) {
        self.add_file(Self::BLOCK);
    }

    fn add_inode(&mut self) {
        self.inodes += 1;
    }

    fn take_away_directory(&mut self) {
        self.bytes = self.bytes.saturating_sub(Self::BLOCK);
        self.inodes = self.inodes.saturating_sub(1);
    }

    /// One link fewer; the last one frees the inode.
    fn take_away(&mut self, stat: &Stat) {
        if stat.st_nlink > 1 {
            return;
        }
        let regular = stat.st_mode & 0o170_000 == 0o100_000;
        let size = if regular {
            u64::try_from(stat.st_size).unwrap_or(0)
        } else {
            0
        };
        self.bytes = self
            .bytes
            .saturating_sub(size.div_ceil(Self::BLOCK) * Self::BLOCK);
        self.inodes = self.inodes.saturating_sub(1);
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

impl std::ops::SubAssign for Usage {
    fn sub_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.inodes = self.inodes.saturating_sub(other.inodes);
    }
}

/// Unpacks a layer into an empty directory and verifies it on the way. Blocks.
///
/// # Errors
/// As [`Error`] says; the directory then holds part of the layer and has to be thrown away.
pub fn unpack(reader: impl Read, directory: &Path, expected: &Expected) -> Result<Unpacked, Error> {
    unpack_within(reader, directory, expected, Limits::DEFAULT)
}

/// The same with a thread of its own for decompression and the blob's digest. That thread lasts as
/// long as the reader, which may be longer than this call where it fails.
///
/// # Errors
/// As [`unpack`]; where there can be no more threads.
pub fn unpack_on_two(
    reader: impl Read + Send + 'static,
    directory: &Path,
    expected: &Expected,
) -> Result<Unpacked, Error> {
    let decoding = Decoding::start(reader)?;
    unpack_decoded(decoding, directory, expected, Limits::DEFAULT)
}

fn unpack_within(
    reader: impl Read,
    directory: &Path,
    expected: &Expected,
    limits: Limits,
) -> Result<Unpacked, Error> {
    unpack_decoded(Decoder::detect(reader)?, directory, expected, limits)
}

fn unpack_decoded(
    source: impl Source,
    directory: &Path,
    expected: &Expected,
    limits: Limits,
) -> Result<Unpacked, Error> {
    let mut archive = Archive::new(Stream::new(source, expected.limit));
    let mut applier = Applier::new(directory, limits, expected.devices)?;
    while let Some(entry) = archive.next()? {
        applier.entry(&entry, &mut archive.stream)?;
    }
    let (diff_id, _, source) = archive.stream.finish()?;
    let (blob, size) = source.finish()?;
    verify_blob(expected, blob, size)?;
    same("uncompressed layer", &expected.diff_id, diff_id)?;
    applier.finish()
}

fn verify_blob(expected: &Expected, digest: Digest, size: u64) -> Result<(), Error> {
    let Some((promised, promised_size)) = &expected.blob else {
        return Ok(());
    };
    if *promised_size != size {
        return Err(Error::SizeMismatch {
            expected: *promised_size,
            actual: size,
        });
    }
    same("layer blob", promised, digest)
}

fn same(what: &'static str, expected: &Digest, actual: Digest) -> Result<(), Error> {
    if *expected == actual {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        what,
        expected: expected.clone(),
        actual,
    })
}
