//! How a session ends badly.

use std::io;

use thiserror::Error;

use super::codec::CodecError;

/// Why a session ended.
#[derive(Debug, Error)]
pub enum SpdyError {
    /// Bytes that are no frames.
    #[error("the client sent what is not SPDY/3.1")]
    Codec(#[from] CodecError),
    /// A stream id that is even, or not higher than the last.
    #[error("the client opened stream {stream} after stream {last}; ids are odd and go up")]
    StreamId {
        /// The id.
        stream: u32,
        /// The highest so far.
        last: u32,
    },
    /// A frame for a stream that was never opened.
    #[error("the client sent a {frame} frame for stream {stream}, which was never opened")]
    NoSuchStream {
        /// What came.
        frame: &'static str,
        /// Where.
        stream: u32,
    },
    /// Streams are opened on and on.
    #[error("the client has {0} streams open and goes on opening streams")]
    TooManyStreams(usize),
    /// A window of more than 2³¹-1 bytes.
    #[error("the client gave stream {0} a window of more than 2147483647 bytes")]
    WindowOverflow(u32),
    /// The connection failed.
    #[error("the connection to the client failed")]
    Connection(#[source] io::Error),
}
