//! The writing direction: one connection, written to by whoever has something to say.
//!
//! ```text
//! writer ── nothing pending, nobody before it ──▶ head + its own buffer, one writev
//!                                                   └ what was not taken: pending (less than a frame)
//! relay  ── the same ──▶ head + what is read behind it, one write
//! writer ── something pending ──▶ in line ◀── turn ── driver, when the connection took what was pending
//! ```
//!
//! The connection is polled with the driver's waker, whoever polls it. A turn is for one frame; one
//! that is not used until the driver comes by again goes to the next in line as well, so that a writer
//! that was cancelled holds up nobody.

mod relay;
mod sending;

pub use relay::Fill;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use super::SpdyError;
use super::codec::{Encoder, Frame, Headers, ResetStatus, data_header};
use super::inbound::{aborted, reset};
use super::session::{wait, wake};

/// The connection's writing half.
pub(super) type Connection = Box<dyn AsyncWrite + Send + Unpin>;

/// The most payload of one frame.
pub(super) const FRAME: usize = 32 << 10;
/// While this much is pending the peer is not listened to: it does not listen either.
pub(super) const CONGESTED: usize = FRAME + (4 << 10);
/// What is said of a stream at its end, whatever is pending: an empty frame and a RST_STREAM, in bytes.
#[cfg(test)]
pub(super) const LAST_WORDS: usize = 8 + 16;
/// More than a control frame of ours has, in bytes.
const CONTROL: usize = 64;
/// What a peer's windows begin with, in bytes.
const WINDOW: i64 = 64 << 10;
/// The largest that a window can be.
const LARGEST: i64 = i32::MAX as i64;

/// The writing direction of all streams.
pub(super) struct Outbound {
    connection: Option<Connection>,
    encoder: Encoder,
    /// Bytes that the connection has not taken.
    pending: BytesMut,
    /// The connection has taken bytes that it may keep to itself: TLS does.
    unflushed: bool,
    driver: Waker,
    outlets: HashMap<u32, Outlet>,
    line: VecDeque<u32>,
    /// Who was called from the line last, and has not written yet.
    turn: Option<u32>,
    session: Window,
    /// Of new streams.
    initial: i64,
    /// The peer keeps windows of streams.
    keeps_windows: bool,
    /// GOAWAY is said: nothing comes after it.
    said_all: bool,
    broken: Option<io::Error>,
}

/// One stream.
struct Outlet {
    window: i64,
    writing: Option<Waker>,
    in_line: bool,
    /// It was called from the line.
    called: bool,
    end: Option<End>,
}

/// The session's window.
struct Window {
    left: i64,
    /// The peer keeps it.
    kept: bool,
}

/// Why nothing more may be written.
#[derive(Clone, Copy)]
enum End {
    Fin,
    Reset(ResetStatus),
}

impl Outbound {
    pub fn new(connection: Connection) -> Self {
        Self {
            connection: Some(connection),
            encoder: Encoder::default(),
            pending: BytesMut::new(),
            unflushed: false,
            driver: Waker::noop().clone(),
            outlets: HashMap::new(),
            line: VecDeque::new(),
            turn: None,
            session: Window {
                left: WINDOW,
                kept: false,
            },
            initial: WINDOW,
            keeps_windows: false,
            said_all: false,
            broken: None,
        }
    }

    /// Who is woken by the connection.
    pub fn driven_by(&mut self, waker: &Waker) {
        self.driver.clone_from(waker);
    }

    /// The peer does not take what is said to it.
    pub fn is_congested(&self) -> bool {
        self.pending.len() >= CONGESTED
    }

    /// A stream was taken that may be written to, unless its opener said otherwise.
    pub fn open(&mut self, stream: u32, unidirectional: bool) {
        let outlet = Outlet {
            window: self.initial,
            writing: None,
            in_line: false,
            called: false,
            end: unidirectional.then_some(End::Fin),
        };
        self.outlets.insert(stream, outlet);
    }

    /// Accepts a stream.
    pub fn reply(&mut self, stream: u32) {
        let Some(outlet) = self.outlets.get(&stream) else {
            return;
        };
        let fin = matches!(outlet.end, Some(End::Fin));
        if matches!(outlet.end, Some(End::Reset(_))) {
            return;
        }
        let headers = Headers::default();
        self.send(&Frame::SynReply {
            stream,
            fin,
            headers,
        });
    }

    /// Sends a control frame, or keeps it until the connection takes it.
    pub fn send(&mut self, frame: &Frame) {
        if self.said_all {
            return;
        }
        self.make_room(CONTROL);
        self.encoder.put(frame, &mut self.pending);
        self.flush();
    }

    /// Sends the last frame. What comes later is not sent.
    pub fn send_last(&mut self, frame: &Frame) {
        self.send(frame);
        self.said_all = true;
    }

    /// Writes one frame with the first bytes of `data`.
    pub fn poll_data(
        &mut self,
        stream: u32,
        data: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let room = match self.room(stream) {
            Ok(room) => room,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if room == 0 {
            return self.wait_for_window(stream, waker);
        }
        if !self.may_write(stream) || !self.flush() {
            return self.wait_in_line(stream, waker);
        }
        let taken = data.len().min(room);
        self.put_data(stream, &data[..taken]);
        self.next_turn();
        match &self.broken {
            Some(error) => Poll::Ready(Err(again(error))),
            None => Poll::Ready(Ok(taken)),
        }
    }

    /// Waits until nothing is pending, and nobody is before this stream.
    pub fn poll_taken(&mut self, stream: u32, waker: &Waker) -> Poll<()> {
        // Whoever writes next hears of an error.
        let may_wait = self.room(stream).is_ok();
        if may_wait && (!self.may_write(stream) || !self.flush()) {
            return self.wait_in_line(stream, waker).map(drop);
        }
        Poll::Ready(())
    }

    /// Ends the stream in this direction.
    pub fn fin(&mut self, stream: u32) -> io::Result<()> {
        let outlet = self.outlets.get_mut(&stream).ok_or_else(aborted)?;
        match outlet.end {
            Some(End::Fin) => return Ok(()),
            Some(End::Reset(status)) => return Err(reset(status)),
            None => outlet.end = Some(End::Fin),
        }
        if self.said_all {
            return Err(aborted());
        }
        self.make_room(CONTROL);
        self.pending
            .extend_from_slice(&data_header(stream, 0, true));
        self.flush();
        Ok(())
    }

    /// Whether it was not ended before.
    pub fn is_unfinished(&self, stream: u32) -> bool {
        let outlet = self.outlets.get(&stream);
        outlet.is_some_and(|outlet| outlet.end.is_none())
    }

    /// Marks the stream as reset. Says whether it was not before.
    pub fn end(&mut self, stream: u32, status: ResetStatus) -> bool {
        let Some(outlet) = self.outlets.get_mut(&stream) else {
            return false;
        };
        if matches!(outlet.end, Some(End::Reset(_))) {
            return false;
        }
        outlet.end = Some(End::Reset(status));
        wake(&mut outlet.writing);
        true
    }

    /// Both handles are dropped.
    pub fn forget(&mut self, stream: u32) {
        self.outlets.remove(&stream);
    }

    /// The peer takes `delta` bytes more, of a stream or (0) of the session.
    pub fn credit(&mut self, stream: u32, delta: u32) -> Result<(), SpdyError> {
        let delta = i64::from(delta);
        let left = if stream == 0 {
            self.session.kept = true;
            self.session.left += delta;
            self.session.left
        } else {
            self.keeps_windows = true;
            let Some(outlet) = self.outlets.get_mut(&stream) else {
                return Ok(());
            };
            outlet.window += delta;
            outlet.window
        };
        if left > LARGEST {
            return Err(SpdyError::WindowOverflow(stream));
        }
        self.window_opened(stream);
        Ok(())
    }

    /// The peer's windows begin with this many bytes, also those that are open.
    pub fn initial_window(&mut self, value: u32) -> Result<(), SpdyError> {
        self.keeps_windows = true;
        let change = i64::from(value) - self.initial;
        self.initial += change;
        for (stream, outlet) in &mut self.outlets {
            outlet.window += change;
            if outlet.window > LARGEST {
                return Err(SpdyError::WindowOverflow(*stream));
            }
        }
        self.window_opened(0);
        Ok(())
    }

    /// Flushes and passes the turn on. Polled by the driver; an error is the connection's.
    pub fn drive(&mut self) -> io::Result<()> {
        if self.flush() {
            // It wakes the driver: it is looked at again whether the turn was used.
            self.next_turn();
        }
        match &self.broken {
            Some(error) => Err(again(error)),
            None => Ok(()),
        }
    }

    /// All that was said is taken.
    pub fn poll_flushed(&mut self, waker: &Waker) -> Poll<io::Result<()>> {
        self.driven_by(waker);
        self.drive()?;
        if self.is_clear() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Tells the peer that nothing more comes.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.connection {
            Some(connection) => Pin::new(connection).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Closes the connection's writing half, which handles of streams would keep open.
    pub fn over(&mut self) {
        self.connection = None;
        self.said_all = true;
        self.pending = BytesMut::new();
        self.unflushed = false;
        self.broken.get_or_insert_with(aborted);
        for outlet in self.outlets.values_mut() {
            wake(&mut outlet.writing);
        }
    }

    /// How much the stream may send in one frame.
    fn room(&self, stream: u32) -> io::Result<usize> {
        if let Some(error) = &self.broken {
            return Err(again(error));
        }
        if self.said_all {
            return Err(aborted());
        }
        let outlet = self.outlets.get(&stream).ok_or_else(aborted)?;
        match outlet.end {
            Some(End::Fin) => return Err(io::ErrorKind::BrokenPipe.into()),
            Some(End::Reset(status)) => return Err(reset(status)),
            None => {}
        }
        let mut room = i64::try_from(FRAME).unwrap_or(LARGEST);
        if self.keeps_windows {
            room = room.min(outlet.window);
        }
        if self.session.kept {
            room = room.min(self.session.left);
        }
        Ok(usize::try_from(room).unwrap_or(0))
    }

    fn wait_for_window(&mut self, stream: u32, waker: &Waker) -> Poll<io::Result<usize>> {
        if let Some(outlet) = self.outlets.get_mut(&stream) {
            outlet.called = false;
            wait(&mut outlet.writing, waker);
        }
        if self.turn == Some(stream) {
            self.next_turn();
        }
        Poll::Pending
    }

    fn wait_in_line(&mut self, stream: u32, waker: &Waker) -> Poll<io::Result<usize>> {
        if let Some(outlet) = self.outlets.get_mut(&stream) {
            wait(&mut outlet.writing, waker);
            if !outlet.in_line {
                outlet.in_line = true;
                self.line.push_back(stream);
            }
        }
        Poll::Pending
    }

    fn may_write(&self, stream: u32) -> bool {
        let called = self
            .outlets
            .get(&stream)
            .is_some_and(|outlet| outlet.called);
        called || self.turn.is_none() && self.line.is_empty()
    }

    /// The next in line may write, if the connection takes it.
    fn next_turn(&mut self) {
        self.turn = None;
        while self.is_clear() {
            let Some(next) = self.line.pop_front() else {
                return;
            };
            if let Some(outlet) = self.outlets.get_mut(&next) {
                outlet.in_line = false;
                outlet.called = true;
                wake(&mut outlet.writing);
                self.turn = Some(next);
                self.driver.wake_by_ref();
                return;
            }
        }
    }

    /// Who waited for a window may look again.
    fn window_opened(&mut self, stream: u32) {
        for (id, outlet) in &mut self.outlets {
            if (stream == 0 || *id == stream) && !outlet.in_line {
                wake(&mut outlet.writing);
            }
        }
    }

    /// The connection has taken all, and passed it on.
    fn is_clear(&self) -> bool {
        self.pending.is_empty() && !self.unflushed
    }
}

/// An error that several hear of.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
