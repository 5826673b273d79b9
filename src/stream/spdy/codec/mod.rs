//! The codec of SPDY/3.1: bytes become frames, frames become bytes. Pure: no I/O, no clock, no
//! async, and nothing of the rest of the daemon (the fuzz target takes this folder as it is).
//!
//! The wire is that of SPDY/3 (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>):
//!
//! ```text
//! control  1 | version 15 | type 16 | flags 8 | length 24 | …         data  0 | stream 31 | flags 8 | length 24 | …
//! ```
//!
//! Invariants: whatever the bytes are, decoding ends in frames, in the wish for more bytes, or in a
//! [`CodecError`] that names what was wrong. It never panics, and what it holds is bounded by
//! [`Limits`]: a control frame by its length, a header block by its length when decompressed. The
//! payload of a data frame is never held, so that its length needs no bound.

mod decode;
mod dictionary;
mod encode;
mod error;
mod frame;
mod headers;
mod zlib;

#[cfg(test)]
mod tests;

pub use decode::{Decoder, Piece};
pub use encode::{Encoder, data_header};
pub use error::CodecError;
pub use frame::{Frame, GoAwayStatus, ResetStatus, Setting};
pub use headers::Headers;

/// How much a peer may make the decoder hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a control frame after its head of 8 bytes.
    pub control_frame: usize,
    /// Bytes of a header block once decompressed.
    pub header_block: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_frame: 16 << 10,
            header_block: 8 << 10,
        }
    }
}
