//! The frames, taken apart.

use std::fmt;

use super::Headers;

/// The types of control frames by number.
pub(super) mod kind {
    pub const SYN_STREAM: u16 = 1;
    pub const SYN_REPLY: u16 = 2;
    pub const RST_STREAM: u16 = 3;
    pub const SETTINGS: u16 = 4;
    pub const PING: u16 = 6;
    pub const GOAWAY: u16 = 7;
    pub const HEADERS: u16 = 8;
    pub const WINDOW_UPDATE: u16 = 9;

    /// What the specification calls it.
    pub fn name(kind: u16) -> &'static str {
        match kind {
            SYN_STREAM => "SYN_STREAM",
            SYN_REPLY => "SYN_REPLY",
            RST_STREAM => "RST_STREAM",
            SETTINGS => "SETTINGS",
            PING => "PING",
            GOAWAY => "GOAWAY",
            HEADERS => "HEADERS",
            WINDOW_UPDATE => "WINDOW_UPDATE",
            _ => "control",
        }
    }
}

/// The version in the head of a control frame: 3.1 says 3 as well.
pub(super) const VERSION: u16 = 3;
/// The last frame of its sender on this stream.
pub(super) const FLAG_FIN: u8 = 1;
/// The receiver of a SYN_STREAM may not write to the stream.
pub(super) const FLAG_UNIDIRECTIONAL: u8 = 2;
/// Stream ids and window sizes have 31 bits.
pub(super) const BITS_31: u32 = 0x7fff_ffff;
/// Lengths have 24 bits.
pub(super) const BITS_24: u32 = 0x00ff_ffff;

/// A control frame. Data frames are never held as a whole: see [`super::Piece::Data`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Odd for a client's streams.
        stream: u32,
        /// The stream that it belongs to, or 0.
        associated: u32,
        /// 0 is the highest, 7 the lowest.
        priority: u8,
        /// Its sender writes nothing.
        fin: bool,
        /// Its receiver writes nothing.
        unidirectional: bool,
        /// What the stream is for.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// The stream.
        stream: u32,
        /// Its sender writes nothing.
        fin: bool,
        /// Anything.
        headers: Headers,
    },
    /// Ends a stream in both directions at once.
    RstStream {
        /// The stream.
        stream: u32,
        /// Why.
        status: ResetStatus,
    },
    /// What holds for the session.
    Settings(Vec<Setting>),
    /// Wants to be sent back; odd numbers are a client's.
    Ping(u32),
    /// No more streams are taken.
    GoAway {
        /// The last stream that was taken.
        last_good: u32,
        /// Why.
        status: GoAwayStatus,
    },
    /// More headers.
    Headers {
        /// The stream.
        stream: u32,
        /// The last frame of its sender.
        fin: bool,
        /// Anything.
        headers: Headers,
    },
    /// More may be sent.
    WindowUpdate {
        /// The stream, or 0 for the session.
        stream: u32,
        /// Bytes, 1 to 2³¹-1.
        delta: u32,
    },
    /// A type that is not known, which the specification wants to be passed over.
    Unknown {
        /// Its number.
        kind: u16,
    },
}

/// One entry of a SETTINGS frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// 1: the receiver shall keep it; 2: it was kept.
    pub flags: u8,
    /// 24 bits; see [`Setting::INITIAL_WINDOW`].
    pub id: u32,
    /// Its value.
    pub value: u32,
}

impl Setting {
    /// The most streams at once that the sender takes.
    pub const MAX_CONCURRENT_STREAMS: u32 = 4;
    /// The size of a new stream's window in bytes.
    pub const INITIAL_WINDOW: u32 = 7;
}

/// Why a stream was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetStatus(pub u32);

impl ResetStatus {
    /// The peer broke the protocol on this stream.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// A frame came for a stream that is not active.
    pub const INVALID_STREAM: Self = Self(2);
    /// Refused before anything was done.
    pub const REFUSED_STREAM: Self = Self(3);
    /// Not wanted any more.
    pub const CANCEL: Self = Self(5);
    /// The side that resets has failed.
    pub const INTERNAL_ERROR: Self = Self(6);
    /// The window's rules were broken.
    pub const FLOW_CONTROL_ERROR: Self = Self(7);
    /// The sender had ended this stream already.
    pub const STREAM_ALREADY_CLOSED: Self = Self(9);
}

impl fmt::Display for ResetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::INVALID_STREAM => "INVALID_STREAM",
            Self::REFUSED_STREAM => "REFUSED_STREAM",
            Self::CANCEL => "CANCEL",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Self::STREAM_ALREADY_CLOSED => "STREAM_ALREADY_CLOSED",
            Self(other) => return write!(f, "status {other}"),
        };
        f.write_str(name)
    }
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoAwayStatus(pub u32);

impl GoAwayStatus {
    /// It is over.
    pub const OK: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The side that leaves has failed.
    pub const INTERNAL_ERROR: Self = Self(2);
}
