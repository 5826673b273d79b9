//! Whatever bytes a peer sends: the reader of frames neither panics nor holds more than it may, and it makes the same
//! of them however they are cut.
#![no_main]

#[path = "../../../src/stream/spdy/codec/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the daemon uses all of it")]
mod codec;

use codec::{CodecError, Decoder, Frame, Limits, Piece};
use libfuzzer_sys::fuzz_target;

/// What came of the bytes: frames, payload by stream in order, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    frames: Vec<Frame>,
    payload: Vec<(u32, Vec<u8>)>,
    ends: Vec<u32>,
    error: Option<CodecError>,
}

fuzz_target!(|bytes: &[u8]| {
    let part = bytes.last().copied().unwrap_or(1);
    let whole = decode(bytes, bytes.len().max(1), usize::MAX);
    let parts = decode(bytes, usize::from(part).max(1), usize::from(part % 7) + 1);
    assert_eq!(whole, parts);
});

fn decode(bytes: &[u8], part: usize, most: usize) -> Outcome {
    let mut decoder = Decoder::new(Limits::default());
    let mut outcome = Outcome::default();
    let (mut start, mut end) = (0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end + part);
        loop {
            match decoder.decode(&bytes[start..end], most) {
                Ok(Some((taken, piece))) => {
                    assert!(taken > 0 && start + taken <= end);
                    start += taken;
                    outcome.take(piece);
                }
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    assert!(
        end - start < 8 + Limits::default().control_frame,
        "it asks for more than a frame"
    );
    outcome
}

impl Outcome {
    fn take(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Control(frame) => self.frames.push(frame),
            Piece::Data { stream, bytes, fin } => {
                match self.payload.last_mut() {
                    Some((last, payload)) if *last == stream => payload.extend_from_slice(bytes),
                    _ => self.payload.push((stream, bytes.to_vec())),
                }
                if fin {
                    self.ends.push(stream);
                }
            }
        }
    }
}
