//! The channels inside a WebSocket: which bytes of a message belong to whom.
//!
//! ```text
//! binary:  channel byte, bytes …             v1, v4, v5 and none named
//! base64:  channel digit, base64 text …      base64.channel.k8s.io and v4.base64
//! v5:      255, channel byte                 the client has no more for that channel
//! ```
//!
//! A message is handed on as it comes. Messages for channels that are not there, or that only the
//! server writes to, are dropped, as every server of the protocol does.
//!
//! Invariant: bytes in, pieces out. No I/O, no memory that grows.

use super::frames::{FrameError, Frames, Piece};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The channel byte of a half-close.
const HALF_CLOSE: u8 = 255;

/// How the messages of a WebSocket are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// A byte for the channel, then bytes.
    Binary,
    /// As [`Coding::Binary`], and 255 ends a channel.
    BinaryHalfClose,
    /// A digit for the channel, then base64 in a text message.
    Base64,
}

/// Why a client's messages are not those of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// It is no WebSocket to begin with.
    #[error("no WebSocket frame")]
    Frame(#[source] FrameError),
    /// A half-close has one channel, no more and no less.
    #[error("a half-close must name one channel")]
    HalfClose,
    /// It is not base64.
    #[error("a message is not base64")]
    Base64,
}

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<'a> {
    /// Bytes for a channel.
    Bytes(u8, &'a [u8]),
    /// A channel has no more.
    End(u8),
    /// Must be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// Nothing that anybody has to do anything about.
    Nothing,
    /// The client closes.
    Close,
}

/// Where in a message the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The channel byte comes next.
    Start,
    /// The rest is the channel's.
    In(u8),
    /// A half-close, and the channel that it named.
    Ending(Option<u8>),
}

/// Reads channels.
#[derive(Debug)]
pub struct Channels {
    coding: Coding,
    frames: Frames,
    at: At,
    /// Base64 text that is not a group of four yet.
    rest: Vec<u8>,
    /// What the last piece of base64 said.
    decoded: Vec<u8>,
    /// Padding was seen: the message must be over.
    padded: bool,
}

impl Channels {
    /// At the beginning of a connection.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        Self {
            coding,
            frames: Frames::default(),
            at: At::Start,
            rest: Vec::new(),
            decoded: Vec::new(),
            padded: false,
        }
    }

    /// What the beginning of `input` says, and how many bytes it took; `None`: more is needed. What
    /// was taken must not be given again.
    ///
    /// # Errors
    /// Where it is not the protocol; nothing can be read after that.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
    ) -> Result<Option<(usize, Said<'a>)>, ChannelError> {
        let Some((taken, piece)) = self.frames.next(input).map_err(ChannelError::Frame)? else {
            return Ok(None);
        };
        let said = match piece {
            Piece::Ping(payload) => Said::Ping(&input[payload]),
            Piece::Pong => Said::Nothing,
            Piece::Close => Said::Close,
            Piece::Data {
                payload,
                first,
                last,
            } => {
                if first {
                    self.at = At::Start;
                }
                self.data(&input[payload], last)?
            }
        };
        Ok(Some((taken, said)))
    }

    fn data<'a>(&'a mut self, mut bytes: &'a [u8], last: bool) -> Result<Said<'a>, ChannelError> {
        if let (At::Start, Some((channel, rest))) = (self.at, bytes.split_first()) {
            self.at = self.begins(*channel);
            bytes = rest;
        }
        match self.at {
            At::Start => Ok(Said::Nothing),
            At::In(channel) if self.coding == Coding::Base64 => {
                self.decode(bytes, last)?;
                Ok(Said::Bytes(channel, &self.decoded))
            }
            At::In(channel) => Ok(Said::Bytes(channel, bytes)),
            At::Ending(channel) => self.ending(channel, bytes, last),
        }
    }

    fn ending(
        &mut self,
        channel: Option<u8>,
        bytes: &[u8],
        last: bool,
    ) -> Result<Said<'static>, ChannelError> {
        let channel = match (channel, bytes) {
            (known, []) => known,
            (None, [channel]) => Some(*channel),
            _ => return Err(ChannelError::HalfClose),
        };
        self.at = At::Ending(channel);
        match (channel, last) {
            (_, false) => Ok(Said::Nothing),
            (Some(channel), true) => Ok(Said::End(channel)),
            (None, true) => Err(ChannelError::HalfClose),
        }
    }

    fn begins(&self, byte: u8) -> At {
        match self.coding {
            Coding::BinaryHalfClose if byte == HALF_CLOSE => At::Ending(None),
            Coding::Base64 => At::In(byte.wrapping_sub(b'0')),
            Coding::Binary | Coding::BinaryHalfClose => At::In(byte),
        }
    }

    /// Decodes groups of four; what is left waits for the next piece.
    fn decode(&mut self, text: &[u8], last: bool) -> Result<(), ChannelError> {
        let text = [&std::mem::take(&mut self.rest), text].concat();
        if self.padded && !text.is_empty() {
            return Err(ChannelError::Base64);
        }
        let (groups, rest) = text.split_at(text.len() / 4 * 4);
        let padded = groups.ends_with(b"=");
        if (last || padded) && !rest.is_empty() {
            return Err(ChannelError::Base64);
        }
        self.decoded.clear();
        let decoded = STANDARD.decode_vec(groups, &mut self.decoded);
        decoded.map_err(|_| ChannelError::Base64)?;
        self.padded = padded && !last;
        self.rest.extend_from_slice(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
