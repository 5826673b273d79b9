//! The frames of WebSocket (RFC 6455), as a server reads and writes them.
//!
//! A crate reads and writes the headers. Payloads are handed on piece by piece, unmasked in place:
//! a client may send a message of any length, and nothing here waits for the end of one.
//!
//! Invariant: bytes in, pieces out. No I/O, and no memory but the state of the frame at hand.

use std::io::Cursor;
use std::ops::Range;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest payload of a ping, a pong or a close (RFC 6455, 5.5).
pub const LONGEST_CONTROL: usize = 125;
/// Room in which every header, and every control frame, is found whole.
pub const LEAST_ROOM: usize = 14 + LONGEST_CONTROL;
/// The longest header that a server writes.
const LONGEST_HEADER: usize = 10;

/// Why a client's bytes are no WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A header that means nothing.
    #[error("a frame's header is wrong: {0}")]
    Header(String),
    /// Bits that belong to extensions that were not agreed on.
    #[error("a frame uses an extension that was not agreed on")]
    Extension,
    /// Clients must mask.
    #[error("a client's frame is not masked")]
    Unmasked,
    /// A ping, a pong or a close that is too long or in pieces.
    #[error("a control frame is longer than 125 bytes or in pieces")]
    Control,
    /// A message begins before the last one ended, or goes on without having begun.
    #[error("the frames of a message are out of order")]
    Order,
}

/// What was found at the beginning of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A part of a message.
    Data {
        /// Where it is in the input, unmasked. It may be empty.
        payload: Range<usize>,
        /// The message begins here.
        first: bool,
        /// The message ends here.
        last: bool,
    },
    /// Must be answered with a pong of the same payload.
    Ping(Range<usize>),
    /// Proof of life.
    Pong,
    /// The client closes.
    Close,
}

/// The frame that is being read.
#[derive(Debug)]
struct Open {
    left: u64,
    mask: [u8; 4],
    /// How far the mask is turned.
    turned: usize,
    last: bool,
}

/// Reads frames.
#[derive(Debug, Default)]
pub struct Frames {
    open: Option<Open>,
    /// A message has begun whose last frame was not seen.
    in_message: bool,
}

impl Frames {
    /// The next piece of `input`, and how many bytes it took; `None`: more is needed. What was taken
    /// must not be given again.
    ///
    /// # Errors
    /// Where the bytes are no WebSocket; nothing can be read after that.
    pub fn next(&mut self, input: &mut [u8]) -> Result<Option<(usize, Piece)>, FrameError> {
        if let Some(open) = self.open.take() {
            return Ok(self.piece(open, input, 0, false));
        }
        let mut cursor = Cursor::new(&*input);
        let parsed = FrameHeader::parse(&mut cursor);
        let Some((header, length)) = parsed.map_err(|e| FrameError::Header(e.to_string()))? else {
            return Ok(None);
        };
        let start = usize::try_from(cursor.position()).expect("it is in the input");
        let mask = checked_mask(&header)?;
        match header.opcode {
            OpCode::Control(control) => {
                let length = control_length(&header, length)?;
                Ok(whole(input, start, length, mask).map(|at| (at.end, piece_of(control, at))))
            }
            OpCode::Data(data) => {
                let first = self.order(data, header.is_final)?;
                let open = Open {
                    left: length,
                    mask,
                    turned: 0,
                    last: header.is_final,
                };
                let piece = self.piece(open, input, start, first);
                Ok(Some(piece.unwrap_or((start, nothing(start, first)))))
            }
        }
    }

    /// Messages follow each other, their frames too.
    fn order(&mut self, data: Data, last: bool) -> Result<bool, FrameError> {
        let first = data != Data::Continue;
        if first == self.in_message {
            return Err(FrameError::Order);
        }
        self.in_message = !last;
        Ok(first)
    }

    /// As much of the frame's payload as is there; `None`, with the frame kept: nothing is.
    fn piece(
        &mut self,
        mut open: Open,
        input: &mut [u8],
        start: usize,
        first: bool,
    ) -> Option<(usize, Piece)> {
        let here = input.len() - start;
        let take = usize::try_from(open.left).map_or(here, |left| left.min(here));
        if take == 0 && open.left > 0 {
            self.open = Some(open);
            return None;
        }
        let payload = start..start + take;
        unmask(&mut input[payload.clone()], open.mask, open.turned);
        open.turned = (open.turned + take) % 4;
        open.left -= take as u64;
        let piece = Piece::Data {
            payload,
            first,
            last: open.last && open.left == 0,
        };
        if open.left > 0 {
            self.open = Some(open);
        }
        Some((start + take, piece))
    }
}

/// A frame of which only the header is there.
fn nothing(at: usize, first: bool) -> Piece {
    Piece::Data {
        payload: at..at,
        first,
        last: false,
    }
}

fn checked_mask(header: &FrameHeader) -> Result<[u8; 4], FrameError> {
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(FrameError::Extension);
    }
    header.mask.ok_or(FrameError::Unmasked)
}

fn control_length(header: &FrameHeader, length: u64) -> Result<usize, FrameError> {
    match usize::try_from(length) {
        Ok(length) if length <= LONGEST_CONTROL && header.is_final => Ok(length),
        _ => Err(FrameError::Control),
    }
}

/// Where a control frame's payload is, if all of it is there.
fn whole(input: &mut [u8], start: usize, length: usize, mask: [u8; 4]) -> Option<Range<usize>> {
    let at = start..start + length;
    unmask(input.get_mut(at.clone())?, mask, 0);
    Some(at)
}

fn piece_of(control: Control, payload: Range<usize>) -> Piece {
    match control {
        Control::Ping => Piece::Ping(payload),
        Control::Pong => Piece::Pong,
        // The reserved ones are refused with their header.
        Control::Close | Control::Reserved(_) => Piece::Close,
    }
}

/// Takes the mask off, sixteen bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4], turned: usize) {
    let mut wide = [0; 16];
    for (at, byte) in wide.iter_mut().enumerate() {
        *byte = mask[(at + turned) % 4];
    }
    let mut chunks = payload.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (byte, mask) in chunk.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(wide) {
        *byte ^= mask;
    }
}

/// A header that a server writes, without memory of its own.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; LONGEST_HEADER],
    length: usize,
}

impl Header {
    /// Of a frame that is a whole message or a control frame, with a payload of this many bytes.
    #[must_use]
    pub fn new(opcode: OpCode, payload: usize) -> Self {
        let header = FrameHeader {
            opcode,
            ..FrameHeader::default()
        };
        let mut bytes = [0; LONGEST_HEADER];
        let mut room = &mut bytes[..];
        header
            .format(payload as u64, &mut room)
            .expect("a header without a mask has at most ten bytes");
        let length = LONGEST_HEADER - room.len();
        Self { bytes, length }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests;
