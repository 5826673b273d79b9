//! Frames become bytes.

use bytes::{BufMut, BytesMut};

use super::frame::{BITS_24, FLAG_FIN, FLAG_UNIDIRECTIONAL, VERSION, kind};
use super::zlib::Stored;
use super::{Frame, Headers};

/// The writing direction of a session.
#[derive(Debug, Default)]
pub struct Encoder {
    compression: Stored,
}

/// The head of a data frame with `length` (24 bits) bytes of payload.
#[must_use]
pub fn data_header(stream: u32, length: usize, fin: bool) -> [u8; 8] {
    let [a, b, c, d] = stream.to_be_bytes();
    let [_, f, g, h] = bits_24(length).to_be_bytes();
    [a, b, c, d, if fin { FLAG_FIN } else { 0 }, f, g, h]
}

fn bits_24(length: usize) -> u32 {
    debug_assert!(
        length <= BITS_24 as usize,
        "a frame is cut before it is written"
    );
    u32::try_from(length).unwrap_or(BITS_24) & BITS_24
}

impl Encoder {
    /// Appends a control frame to `out`. Frames of an unknown type are nothing.
    pub fn put(&mut self, frame: &Frame, out: &mut BytesMut) {
        match frame {
            Frame::SynStream { headers, .. } => {
                let flags = syn_stream_flags(frame);
                let body = syn_stream_fixed(frame);
                self.with_headers(kind::SYN_STREAM, flags, &body, headers, out);
            }
            Frame::SynReply {
                stream,
                fin,
                headers,
            } => {
                self.on_stream(kind::SYN_REPLY, (*stream, *fin), headers, out);
            }
            Frame::Headers {
                stream,
                fin,
                headers,
            } => {
                self.on_stream(kind::HEADERS, (*stream, *fin), headers, out);
            }
            Frame::RstStream { stream, status } => pair(kind::RST_STREAM, [*stream, status.0], out),
            Frame::GoAway { last_good, status } => pair(kind::GOAWAY, [*last_good, status.0], out),
            Frame::WindowUpdate { stream, delta } => {
                pair(kind::WINDOW_UPDATE, [*stream, *delta], out);
            }
            Frame::Ping(id) => {
                head(kind::PING, 0, 4, out);
                out.put_u32(*id);
            }
            Frame::Settings(settings) => {
                head(kind::SETTINGS, 0, 4 + 8 * settings.len(), out);
                out.put_u32(bits_24(settings.len()));
                for setting in settings {
                    out.put_u32(u32::from(setting.flags) << 24 | setting.id & BITS_24);
                    out.put_u32(setting.value);
                }
            }
            Frame::Unknown { .. } => {}
        }
    }

    fn on_stream(
        &mut self,
        kind: u16,
        (stream, fin): (u32, bool),
        headers: &Headers,
        out: &mut BytesMut,
    ) {
        let flags = if fin { FLAG_FIN } else { 0 };
        self.with_headers(kind, flags, &stream.to_be_bytes(), headers, out);
    }

    fn with_headers(
        &mut self,
        kind: u16,
        flags: u8,
        fixed: &[u8],
        headers: &Headers,
        out: &mut BytesMut,
    ) {
        let mut block = BytesMut::new();
        self.compression.put(&headers.block(), &mut block);
        head(kind, flags, fixed.len() + block.len(), out);
        out.put_slice(fixed);
        out.put_slice(&block);
    }
}

fn syn_stream_flags(frame: &Frame) -> u8 {
    let Frame::SynStream {
        fin,
        unidirectional,
        ..
    } = frame
    else {
        return 0;
    };
    let fin = if *fin { FLAG_FIN } else { 0 };
    fin | if *unidirectional {
        FLAG_UNIDIRECTIONAL
    } else {
        0
    }
}

/// Stream, associated stream, priority, and a slot that nobody uses.
fn syn_stream_fixed(frame: &Frame) -> [u8; 10] {
    let mut fixed = [0; 10];
    if let Frame::SynStream {
        stream,
        associated,
        priority,
        ..
    } = frame
    {
        fixed[..4].copy_from_slice(&stream.to_be_bytes());
        fixed[4..8].copy_from_slice(&associated.to_be_bytes());
        fixed[8] = priority << 5;
    }
    fixed
}

fn head(kind: u16, flags: u8, length: usize, out: &mut BytesMut) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | bits_24(length));
}

/// Two numbers of 32 bits.
fn pair(kind: u16, [first, second]: [u32; 2], out: &mut BytesMut) {
    head(kind, 0, 8, out);
    out.put_u32(first);
    out.put_u32(second);
}
