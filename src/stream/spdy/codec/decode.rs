//! Bytes become frames.

use super::frame::{BITS_24, BITS_31, FLAG_FIN, FLAG_UNIDIRECTIONAL, VERSION, kind};
use super::zlib::Inflate;
use super::{CodecError, Frame, GoAwayStatus, Headers, Limits, ResetStatus, Setting};

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole control frame.
    Control(Frame),
    /// Some of a data frame's payload, as much as is there.
    Data {
        /// The stream.
        stream: u32,
        /// May be empty where `fin` is set.
        bytes: &'a [u8],
        /// The sender has ended the stream: these are its last bytes.
        fin: bool,
    },
}

/// The reading direction of a session.
pub struct Decoder {
    limits: Limits,
    inflate: Option<Inflate>,
    /// A data frame whose payload is not at its end.
    data: Option<Payload>,
}

/// What is still to come of a data frame.
#[derive(Clone, Copy)]
struct Payload {
    stream: u32,
    fin: bool,
    left: usize,
}

/// The first 8 bytes of a control frame.
struct Head {
    kind: u16,
    flags: u8,
    length: usize,
}

impl Head {
    fn name(&self) -> &'static str {
        kind::name(self.kind)
    }

    fn fin(&self) -> bool {
        self.flags & FLAG_FIN != 0
    }
}

const HEAD: usize = 8;

impl Decoder {
    /// At the beginning of a session.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            inflate: None,
            data: None,
        }
    }

    /// Takes the next piece from the front of `input` and says how many bytes it was; at most `most`
    /// (not 0) bytes of payload at once. `None`: it takes more input.
    ///
    /// # Errors
    /// What is wrong with the bytes. The session is over then.
    pub fn decode<'a>(
        &mut self,
        input: &'a [u8],
        most: usize,
    ) -> Result<Option<(usize, Piece<'a>)>, CodecError> {
        if let Some(payload) = self.data {
            return Ok(self.payload(payload, input, most));
        }
        let Some((&head, rest)) = input.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        if head[0] & 0x80 != 0 {
            self.control(head, rest)
        } else {
            self.data(head, rest, most)
        }
    }

    fn data<'a>(
        &mut self,
        head: [u8; HEAD],
        rest: &'a [u8],
        most: usize,
    ) -> Result<Option<(usize, Piece<'a>)>, CodecError> {
        let [first, second] = words(head);
        let payload = Payload {
            stream: first & BITS_31,
            fin: head[4] & FLAG_FIN != 0,
            left: size(second & BITS_24),
        };
        if payload.stream == 0 {
            return Err(CodecError::StreamZero("DATA"));
        }
        let piece = self.payload(payload, rest, most);
        Ok(piece.map(|(taken, piece)| (HEAD + taken, piece)))
    }

    fn payload<'a>(
        &mut self,
        payload: Payload,
        input: &'a [u8],
        most: usize,
    ) -> Option<(usize, Piece<'a>)> {
        let taken = payload.left.min(input.len()).min(most);
        if taken == 0 && payload.left > 0 {
            return None;
        }
        let left = payload.left - taken;
        self.data = (left > 0).then_some(Payload { left, ..payload });
        let piece = Piece::Data {
            stream: payload.stream,
            bytes: &input[..taken],
            fin: payload.fin && left == 0,
        };
        Some((taken, piece))
    }

    fn control<'a>(
        &mut self,
        head: [u8; HEAD],
        rest: &[u8],
    ) -> Result<Option<(usize, Piece<'a>)>, CodecError> {
        let head = self.head(head)?;
        let Some(body) = rest.get(..head.length) else {
            return Ok(None);
        };
        let frame = self.frame(&head, body)?;
        Ok(Some((HEAD + head.length, Piece::Control(frame))))
    }

    /// Refuses what would not fit before it is waited for.
    fn head(&self, head: [u8; HEAD]) -> Result<Head, CodecError> {
        let [_, second] = words(head);
        let version = u16::from_be_bytes([head[0] & 0x7f, head[1]]);
        if version != VERSION {
            return Err(CodecError::Version(version));
        }
        let head = Head {
            kind: u16::from_be_bytes([head[2], head[3]]),
            flags: head[4],
            length: size(second & BITS_24),
        };
        if head.length > self.limits.control_frame {
            return Err(CodecError::TooLong {
                kind: head.name(),
                length: head.length,
                limit: self.limits.control_frame,
            });
        }
        Ok(head)
    }

    fn frame(&mut self, head: &Head, body: &[u8]) -> Result<Frame, CodecError> {
        match head.kind {
            kind::SYN_STREAM => self.syn_stream(head, body),
            kind::SYN_REPLY => {
                let (stream, headers) = self.stream_and_headers(head, body)?;
                let fin = head.fin();
                Ok(Frame::SynReply {
                    stream,
                    fin,
                    headers,
                })
            }
            kind::HEADERS => {
                let (stream, headers) = self.stream_and_headers(head, body)?;
                let fin = head.fin();
                Ok(Frame::Headers {
                    stream,
                    fin,
                    headers,
                })
            }
            kind::RST_STREAM => rst_stream(head, body),
            kind::SETTINGS => settings(head, body),
            kind::PING => exactly::<4>(head, body).map(|id| Frame::Ping(u32::from_be_bytes(id))),
            kind::GOAWAY => goaway(head, body),
            kind::WINDOW_UPDATE => window_update(head, body),
            kind => Ok(Frame::Unknown { kind }),
        }
    }

    fn syn_stream(&mut self, head: &Head, body: &[u8]) -> Result<Frame, CodecError> {
        let Some((fixed, block)) = body.split_first_chunk::<10>() else {
            return Err(wrong_length(head));
        };
        let [a, b, c, d, e, f, g, h, priority, _slot] = *fixed;
        Ok(Frame::SynStream {
            stream: stream(head, [a, b, c, d])?,
            associated: u32::from_be_bytes([e, f, g, h]) & BITS_31,
            priority: priority >> 5,
            fin: head.fin(),
            unidirectional: head.flags & FLAG_UNIDIRECTIONAL != 0,
            headers: self.headers(block)?,
        })
    }

    fn stream_and_headers(
        &mut self,
        head: &Head,
        body: &[u8],
    ) -> Result<(u32, Headers), CodecError> {
        let Some((&id, block)) = body.split_first_chunk::<4>() else {
            return Err(wrong_length(head));
        };
        Ok((stream(head, id)?, self.headers(block)?))
    }

    fn headers(&mut self, block: &[u8]) -> Result<Headers, CodecError> {
        let limit = self.limits.header_block;
        let inflate = self.inflate.get_or_insert_with(|| Inflate::new(limit));
        Headers::parse(&inflate.block(block)?)
    }
}

fn words(head: [u8; HEAD]) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = head;
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    ]
}

fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn wrong_length(head: &Head) -> CodecError {
    CodecError::Length {
        kind: head.name(),
        length: head.length,
    }
}

fn exactly<const N: usize>(head: &Head, body: &[u8]) -> Result<[u8; N], CodecError> {
    body.try_into().map_err(|_| wrong_length(head))
}

/// Two numbers of 32 bits.
fn pair(head: &Head, body: &[u8]) -> Result<[u32; 2], CodecError> {
    exactly::<8>(head, body).map(words)
}

fn stream(head: &Head, id: [u8; 4]) -> Result<u32, CodecError> {
    match u32::from_be_bytes(id) & BITS_31 {
        0 => Err(CodecError::StreamZero(head.name())),
        stream => Ok(stream),
    }
}

fn rst_stream(head: &Head, body: &[u8]) -> Result<Frame, CodecError> {
    let [id, status] = pair(head, body)?;
    let stream = stream(head, id.to_be_bytes())?;
    let status = ResetStatus(status);
    Ok(Frame::RstStream { stream, status })
}

fn goaway(head: &Head, body: &[u8]) -> Result<Frame, CodecError> {
    let [last_good, status] = pair(head, body)?;
    Ok(Frame::GoAway {
        last_good: last_good & BITS_31,
        status: GoAwayStatus(status),
    })
}

fn window_update(head: &Head, body: &[u8]) -> Result<Frame, CodecError> {
    let [stream, delta] = pair(head, body)?;
    let (stream, delta) = (stream & BITS_31, delta & BITS_31);
    if delta == 0 {
        return Err(CodecError::Value {
            kind: head.name(),
            field: "delta",
            value: 0,
        });
    }
    Ok(Frame::WindowUpdate { stream, delta })
}

fn settings(head: &Head, body: &[u8]) -> Result<Frame, CodecError> {
    let Some((count, entries)) = body.split_first_chunk::<4>() else {
        return Err(wrong_length(head));
    };
    let (entries, rest) = entries.as_chunks::<HEAD>();
    if entries.len() != size(u32::from_be_bytes(*count)) || !rest.is_empty() {
        return Err(wrong_length(head));
    }
    let settings = entries.iter().map(|&entry| setting(head, entry));
    Ok(Frame::Settings(settings.collect::<Result<_, _>>()?))
}

fn setting(head: &Head, entry: [u8; HEAD]) -> Result<Setting, CodecError> {
    let [id, value] = words(entry);
    let id = id & BITS_24;
    if id == Setting::INITIAL_WINDOW && value > BITS_31 {
        return Err(CodecError::Value {
            kind: head.name(),
            field: "initial window",
            value,
        });
    }
    let flags = entry[0];
    Ok(Setting { flags, id, value })
}
