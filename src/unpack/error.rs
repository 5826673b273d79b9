//! Why a layer could not be unpacked.

use std::{io, path::PathBuf};

use crate::{error::Kind, id::Digest};

/// Why a layer could not be unpacked; the caller adds which layer of which image it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compressed stream could not be read: the download broke or was given up.
    #[error("reading the layer after {offset} bytes")]
    Read {
        /// Compressed bytes read before.
        offset: u64,
        /// What the source said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not what their compression promises.
    #[error("decompressing the layer ({format})")]
    Decompress {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// The layer does not follow the tar format.
    #[error("malformed tar: {0}")]
    Malformed(String),
    /// A name that would leave the layer's root or cannot be a file name.
    #[error("entry {0:?} has a name that is not allowed")]
    Name(String),
    /// A device node where the node's owner wants none.
    #[error("entry {0:?} is a device node, which `images.device_nodes` refuses")]
    Device(PathBuf),
    /// The layer needs more than its size explains: entries, or memory to remember them.
    #[error("entry {entry:?} is one too many: the layer has more than {limit} {what}")]
    TooMany {
        /// The entry at which the limit was reached.
        entry: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The layer unpacks to more than the limit: a decompression bomb.
    #[error("layer unpacks to more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A system call on the layer's tree failed.
    #[error("{operation} {path:?}")]
    Apply {
        /// What was being done, as a verb: `create`, `link`, `set attributes of`.
        operation: &'static str,
        /// The path inside the layer.
        path: PathBuf,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// The bytes are not those that were asked for.
    #[error("{what} is {actual}, expected {expected}")]
    DigestMismatch {
        /// `layer blob` or `uncompressed layer`.
        what: &'static str,
        /// The digest that the manifest or the config promises.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The blob is longer or shorter than its descriptor says.
    #[error("layer blob has {actual} bytes, its descriptor says {expected}")]
    SizeMismatch {
        /// Bytes according to the descriptor.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// The thread that unpacked ended without a result.
    #[error("unpacking was interrupted")]
    Interrupted,
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Apply { source, .. } if full(source) => Kind::ResourceExhausted,
            Self::TooLarge { .. } | Self::TooMany { .. } => Kind::ResourceExhausted,
            Self::Device(_) => Kind::PermissionDenied,
            Self::Read { .. } | Self::Interrupted => Kind::Unavailable,
            _ => Kind::Internal,
        }
    }

    /// The refusal of a name, with what of it can be shown.
    pub(super) fn name(raw: &[u8]) -> Self {
        let shown = &raw[..raw.len().min(256)];
        Self::Name(String::from_utf8_lossy(shown).into_owned())
    }

    /// Whether it is the layer's bytes that are wrong, so that another source may have better ones.
    pub fn is_of_the_layer(&self) -> bool {
        !matches!(
            self,
            Self::Read { .. } | Self::Apply { .. } | Self::Device(_) | Self::Interrupted
        )
    }

    /// Whether the disk did not take what was to be written.
    pub fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Apply { .. })
    }

    /// The I/O error that a reader of the download was given, if this is one.
    pub fn read_cause(&self) -> Option<&io::Error> {
        match self {
            Self::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Whether the disk, its inodes or a quota are used up.
fn full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
