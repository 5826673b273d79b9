//! SPDY/3.1, the server's side: frames, streams and flow control, and nothing of what is done with
//! them. Peers are Go's spdystream in every version that kubelets and clients were built with.
//!
//! ```text
//!            ┌─ driver (one future) ── reads, decodes ──▶ inbound: what each stream has not read ──▶ SpdyReader
//! connection ┤                                              └ openings ──▶ Incoming ──▶ Opening
//!            └─ outbound: the connection's writing half, one frame at a time ◀── SpdyWriter (writes by itself)
//! ```
//!
//! - **Reading.** A peer that keeps windows is told how far it may go on with a stream as that is read;
//!   the session's window is opened as bytes come, so that no stream has it for itself. The more streams,
//!   the less each may leave unread (SETTINGS): all that are not read at all are together within
//!   [`Limits::unread`], and hold up nobody (but for what the peer sent before it heard of that). Who keeps no windows (spdystream) is held back by TCP: while
//!   [`Limits::unread`] bytes wait for their readers, the connection is not read. Where that lasts for
//!   [`Limits::stall`] and other streams may wait behind, the one with most unread is reset; where there are
//!   none it is waited for.
//! - **Writing.** A writer hands its own buffer to the connection, with the frame's head before it, in
//!   one call. What the connection does not take at once is kept (less than one frame); who comes
//!   meanwhile waits in line, each for one frame, so that all streams go on equally. Who passes bytes on
//!   ([`SpdyWriter::relay`]) reads them when it is its turn, behind the frame's head: who waits, for its
//!   turn or for a window, holds nothing.
//! - **Windows.** A peer's windows are obeyed once it has shown that it keeps them, by a WINDOW_UPDATE
//!   or a SETTINGS frame with an initial window. A peer that never does would otherwise be written to
//!   for 64 KiB and no more.
//!
//! Invariants: a session holds at most [`Limits::unread`] + one frame in each direction, whatever its
//! peer does; what is malformed ends the session with GOAWAY and a [`SpdyError`] that names it; a
//! stream's reset touches that stream only.

pub mod codec;
mod driver;
mod error;
mod inbound;
mod outbound;
mod session;
mod stream;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

pub use codec::{Headers, ResetStatus};
pub use error::SpdyError;
pub use inbound::Cut;
pub use outbound::Fill;
pub use stream::{Incoming, Opening, SpdyReader, SpdyStream, SpdyUpload, SpdyWriter};

/// What a peer may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of single frames.
    pub codec: codec::Limits,
    /// Streams that are open at once. One more is refused; who goes on opening, without one being
    /// taken, is sent away.
    pub streams: usize,
    /// Bytes that wait for their readers before the connection is not read any more.
    pub unread: usize,
    /// How long a peer that broke the protocol has to take the last bytes and to close.
    pub linger: Duration,
    /// How long the connection may stay unread where streams may wait behind one that nobody reads:
    /// then that stream is reset. `None`: for ever.
    pub stall: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            codec: codec::Limits::default(),
            streams: 1000,
            unread: 69 << 10,
            linger: Duration::from_secs(5),
            stall: None,
        }
    }
}

/// The most that a session holds besides its streams' own buffers, in bytes: what is unread, not
/// decoded, decompressed and not yet sent, what is to be said of each stream at its end, and zlib's window
/// with its tables.
#[cfg(test)]
#[must_use]
pub const fn most_held(limits: Limits) -> usize {
    let zlib = 44 << 10;
    let ends = limits.streams * outbound::LAST_WORDS;
    limits.unread + driver::BUFFER + limits.codec.header_block + outbound::CONGESTED + ends + zlib
}

/// Serves SPDY/3.1 on a connection whose upgrade is done. The future is the driver: nothing is read
/// or accepted unless it is polled. It ends
/// - with `Ok` when the peer has gone, or when [`Incoming`] and all streams are dropped and the peer
///   has taken what was written and has closed, for which there is no limit here;
/// - with an error when the peer broke the protocol or the connection broke.
///
/// When it has ended or is dropped, all streams fail and [`Incoming::accept`] gives `None`.
pub fn serve<IO>(
    io: IO,
    limits: Limits,
) -> (Incoming, impl Future<Output = Result<(), SpdyError>> + Send)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reading, writing) = tokio::io::split(io);
    let session = session::Session::new(Box::new(writing), limits);
    let driver = driver::Driver::new(reading, session.clone());
    (Incoming::new(session), driver.run())
}
