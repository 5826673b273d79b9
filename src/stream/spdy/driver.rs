//! The future that reads the connection, and ends it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::SpdyError;
use super::codec::{Decoder, Frame, GoAwayStatus, Piece, ResetStatus, Setting};
use super::inbound::{Opened, Receipt, Verdict};
use super::session::Session;

/// A read takes at most this many bytes. A control frame fits.
pub(super) const BUFFER: usize = 16 << 10;
/// Pieces in a row before others on this thread come by.
const BURST: usize = 64;

/// Reads for all streams.
pub(super) struct Driver<R> {
    connection: R,
    session: Arc<Session>,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// What of the buffer is not decoded.
    filled: std::ops::Range<usize>,
    /// Runs while the connection is not read for streams that nobody reads.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// How a session ends well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    /// The peer closed the connection.
    Peer,
    /// All streams are done, and no more are accepted.
    Ours,
}

/// Handles hear of the end, however it comes.
struct OnDrop(Arc<Session>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.over();
    }
}

impl<R: AsyncRead + Unpin> Driver<R> {
    pub fn new(connection: R, session: Arc<Session>) -> Self {
        let limits = session.limits.codec;
        let buffer = BUFFER.max(limits.control_frame + 8);
        Self {
            connection,
            session,
            decoder: Decoder::new(limits),
            buffer: vec![0; buffer],
            filled: 0..0,
            stalled: None,
        }
    }

    /// Until the end.
    pub async fn run(mut self) -> Result<(), SpdyError> {
        let over = OnDrop(self.session.clone());
        let end = poll_fn(|cx| self.poll_serve(cx)).await;
        self.session.inbound().over();
        let status = match &end {
            Ok(Goodbye::Peer) | Err(SpdyError::Connection(_)) => None,
            Ok(Goodbye::Ours) => Some(GoAwayStatus::OK),
            Err(_) => Some(GoAwayStatus::PROTOCOL_ERROR),
        };
        // The end is known; a peer that does not wait for its last words has lost nothing.
        match status {
            None => {}
            // How long a peer may take that did nothing wrong is for whoever polls this.
            Some(GoAwayStatus::OK) => drop(self.say_goodbye(GoAwayStatus::OK).await),
            Some(status) => {
                drop(timeout(self.session.limits.linger, self.say_goodbye(status)).await);
            }
        }
        drop(over);
        end.map(|_| ())
    }

    /// Sends what is pending and GOAWAY, and waits for the peer to close: a connection that is closed
    /// with something unread takes what the peer has not read with it.
    async fn say_goodbye(&mut self, status: GoAwayStatus) -> io::Result<()> {
        let last_good = self.session.inbound().last();
        let frame = Frame::GoAway { last_good, status };
        self.session.outbound().send_last(&frame);
        poll_fn(|cx| self.session.outbound().poll_flushed(cx.waker())).await?;
        poll_fn(|cx| self.session.outbound().poll_shutdown(cx)).await?;
        while self.connection.read(&mut self.buffer).await? > 0 {}
        Ok(())
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<Result<Goodbye, SpdyError>> {
        for _ in 0..BURST {
            let Some(room) = self.poll_room(cx)? else {
                return Poll::Pending;
            };
            if self.session.inbound().is_done() {
                return Poll::Ready(Ok(Goodbye::Ours));
            }
            if self.decode(room)? {
                continue;
            }
            if ready!(self.poll_read(cx)).map_err(SpdyError::Connection)? == 0 {
                return Poll::Ready(Ok(Goodbye::Peer));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// How much may be taken now; `None`: nothing, until somebody has read or the peer has.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Result<Option<usize>, SpdyError> {
        let congested = {
            let mut outbound = self.session.outbound();
            outbound.driven_by(cx.waker());
            outbound.drive().map_err(SpdyError::Connection)?;
            outbound.is_congested()
        };
        let mut inbound = self.session.inbound();
        let room = inbound.room(cx.waker());
        let may = room > 0 && !congested || inbound.is_done();
        drop(inbound);
        if room > 0 {
            self.stalled = None;
        } else {
            self.poll_stalled(cx);
        }
        Ok(may.then_some(room))
    }

    /// Resets the stream for which the others have waited long enough. Where there are none it is looked
    /// again.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) {
        let Some(limit) = self.session.limits.stall else {
            return;
        };
        let waited = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        if waited.as_mut().poll(cx).is_pending() {
            return;
        }
        self.stalled = None;
        cx.waker().wake_by_ref();
        let staller = self.session.inbound().staller();
        if let Some(stream) = staller {
            self.session.reset(stream, ResetStatus::FLOW_CONTROL_ERROR);
        }
    }

    /// Takes one piece of what was read, if there is one.
    fn decode(&mut self, room: usize) -> Result<bool, SpdyError> {
        let input = &self.buffer[self.filled.clone()];
        let Some((taken, piece)) = self.decoder.decode(input, room)? else {
            return Ok(false);
        };
        match piece {
            Piece::Data { stream, bytes, fin } => data(&self.session, stream, bytes, fin)?,
            Piece::Control(frame) => control(&self.session, frame)?,
        }
        self.filled.start += taken;
        Ok(true)
    }

    /// Reads behind what is not decoded. Gives how many bytes came; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let mut space = ReadBuf::new(&mut self.buffer[self.filled.end..]);
        ready!(Pin::new(&mut self.connection).poll_read(cx, &mut space))?;
        let read = space.filled().len();
        self.filled.end += read;
        Poll::Ready(Ok(read))
    }
}

fn data(session: &Session, stream: u32, bytes: &[u8], fin: bool) -> Result<(), SpdyError> {
    let receipt = session.inbound().receive(stream, bytes, fin)?;
    match receipt {
        Receipt::Kept(credit) => session.give(stream, &credit),
        Receipt::AfterEnd(credit) => {
            session.give(stream, &credit);
            session.reset(stream, ResetStatus::STREAM_ALREADY_CLOSED);
        }
    }
    Ok(())
}

fn control(session: &Session, frame: Frame) -> Result<(), SpdyError> {
    match frame {
        Frame::SynStream {
            stream,
            headers,
            fin,
            unidirectional,
            ..
        } => {
            let opened = Opened {
                stream,
                headers,
                unidirectional,
            };
            open(session, opened, fin)
        }
        // This side opens no streams.
        Frame::SynReply { stream, .. } => {
            let frame = "SYN_REPLY";
            Err(SpdyError::NoSuchStream { frame, stream })
        }
        Frame::RstStream { stream, status } => reset(session, stream, status),
        Frame::Settings(settings) => apply(session, &settings),
        Frame::Ping(id) => {
            pong(session, id);
            Ok(())
        }
        Frame::GoAway { .. } => {
            session.inbound().no_more_streams();
            Ok(())
        }
        Frame::Headers {
            stream, fin: true, ..
        } => session.inbound().fin("HEADERS", stream),
        Frame::Headers { stream, .. } => session.inbound().known("HEADERS", stream),
        Frame::WindowUpdate { stream, delta } => credit(session, stream, delta),
        Frame::Unknown { .. } => Ok(()),
    }
}

fn open(session: &Session, opened: Opened, fin: bool) -> Result<(), SpdyError> {
    let stream = opened.stream;
    session.outbound().open(stream, opened.unidirectional);
    let verdict = session.inbound().open(opened, fin)?;
    if verdict == Verdict::Refused {
        let mut outbound = session.outbound();
        outbound.forget(stream);
        let status = ResetStatus::REFUSED_STREAM;
        outbound.send(&Frame::RstStream { stream, status });
        return Ok(());
    }
    session.share_window();
    Ok(())
}

/// The peer resets: it needs not be told.
fn reset(session: &Session, stream: u32, status: ResetStatus) -> Result<(), SpdyError> {
    {
        let mut inbound = session.inbound();
        inbound.known("RST_STREAM", stream)?;
        inbound.reset(stream, status);
    }
    session.outbound().end(stream, status);
    Ok(())
}

fn apply(session: &Session, settings: &[Setting]) -> Result<(), SpdyError> {
    let window = settings
        .iter()
        .find(|setting| setting.id == Setting::INITIAL_WINDOW);
    let Some(window) = window else { return Ok(()) };
    keeps_windows(session);
    session.outbound().initial_window(window.value)
}

/// The peer has shown that it keeps windows: ours as well.
fn keeps_windows(session: &Session) {
    let is_new = session.inbound().keeps_windows();
    if is_new {
        session.share_window();
    }
}

/// A client's own number comes back; an even one would be an answer to a question of ours.
fn pong(session: &Session, id: u32) {
    if !id.is_multiple_of(2) {
        session.outbound().send(&Frame::Ping(id));
    }
}

fn credit(session: &Session, stream: u32, delta: u32) -> Result<(), SpdyError> {
    if stream != 0 {
        session.inbound().known("WINDOW_UPDATE", stream)?;
    }
    keeps_windows(session);
    session.outbound().credit(stream, delta)
}
