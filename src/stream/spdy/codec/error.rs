//! What can be wrong with the bytes of a peer.

use thiserror::Error;

/// Why bytes are no frame. The session cannot go on after it: where the next frame begins, or what
/// the header compression has seen, is not known any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Not the version that is spoken here.
    #[error("a control frame of SPDY version {0}, not 3")]
    Version(u16),
    /// More than [`super::Limits::control_frame`].
    #[error("a {kind} frame of {length} bytes; at most {limit} are taken")]
    TooLong {
        /// The frame's name.
        kind: &'static str,
        /// What it claims.
        length: usize,
        /// What is taken.
        limit: usize,
    },
    /// A length that this kind of frame cannot have.
    #[error("a {kind} frame of {length} bytes, which no {kind} frame has")]
    Length {
        /// The frame's name.
        kind: &'static str,
        /// What it claims.
        length: usize,
    },
    /// Stream 0 where a stream must be named.
    #[error("a {0} frame for stream 0")]
    StreamZero(&'static str),
    /// A field with a value that it must not have.
    #[error("a {kind} frame whose {field} is {value}")]
    Value {
        /// The frame's name.
        kind: &'static str,
        /// The field's name.
        field: &'static str,
        /// What it is.
        value: u32,
    },
    /// The compressed header block is broken.
    #[error("a header block that cannot be decompressed: {0}")]
    Zlib(String),
    /// More than [`super::Limits::header_block`].
    #[error("a header block of more than {0} bytes when decompressed")]
    BlockTooLong(usize),
    /// The decompressed header block is broken.
    #[error("a header block with {0}")]
    Block(&'static str),
}
