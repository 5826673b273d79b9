//! Whatever bytes a client sends: the reader of WebSocket channels neither panics nor waits for more than it may, and it
//! makes the same of them however they are cut. The first byte chooses the protocol, the last one the cuts.
#![no_main]

#[path = "../../../src/stream/websocket"]
#[allow(dead_code, unused_imports, reason = "the daemon uses all of it")]
mod websocket {
    pub mod channels;
    pub mod frames;
}

use libfuzzer_sys::fuzz_target;
use websocket::channels::{ChannelError, Channels, Coding, Said};
use websocket::frames::LEAST_ROOM;

/// What came of the bytes: neighbours of one channel joined, ends as 255, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    said: Vec<(u8, Vec<u8>)>,
    pings: Vec<Vec<u8>>,
    closed: bool,
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else {
        return;
    };
    let coding = match first % 3 {
        0 => Coding::Binary,
        1 => Coding::BinaryHalfClose,
        _ => Coding::Base64,
    };
    let part = bytes.last().copied().unwrap_or(1);
    let whole = read(bytes, coding, bytes.len().max(1));
    let parts = read(bytes, coding, usize::from(part).max(1));
    assert_eq!(whole, parts);
});

fn read(bytes: &[u8], coding: Coding, part: usize) -> Result<Outcome, ChannelError> {
    let mut channels = Channels::new(coding);
    let mut outcome = Outcome::default();
    let mut held = Vec::new();
    for chunk in bytes.chunks(part) {
        held.extend_from_slice(chunk);
        let mut at = 0;
        while let Some((taken, said)) = channels.next(&mut held[at..])? {
            outcome.take(said);
            at += taken;
        }
        held.drain(..at);
        assert!(held.len() < LEAST_ROOM, "it asks for more than a frame's head");
    }
    Ok(outcome)
}

impl Outcome {
    fn take(&mut self, said: Said<'_>) {
        match said {
            Said::Bytes(_, []) | Said::Nothing => {}
            Said::Bytes(channel, bytes) => match self.said.last_mut() {
                Some((last, all)) if *last == channel => all.extend_from_slice(bytes),
                _ => self.said.push((channel, bytes.to_vec())),
            },
            Said::End(channel) => self.said.push((255, vec![channel])),
            Said::Ping(payload) => self.pings.push(payload.to_vec()),
            Said::Close => self.closed = true,
        }
    }
}
