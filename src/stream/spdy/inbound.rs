//! The reading direction: what came for each stream and was not read, and streams that nobody has
//! accepted. All of it counts against one bound, until whoever took it has passed it on.
//!
//! ```text
//! the session's window   opened again as bytes come: no stream has it for itself
//! a stream's window      opened again as its bytes are read: what it leaves unread is its own affair
//! ```
//!
//! A peer that keeps windows is told a smaller one the more streams are open: all that leave everything
//! unread are together within the bound then, and the connection is still read for the next.

mod reading;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;

use super::codec::{Headers, ResetStatus};
use super::session::{wait, wake};
use super::{Limits, SpdyError};

/// The window that a peer begins with, of each stream and of the session.
pub(super) const WINDOW: usize = 64 << 10;
/// About what a chunk costs besides its bytes.
const CHUNK: usize = 64;
/// The least that a window begins with.
const LEAST_WINDOW: usize = 64;

/// The reading direction of all streams.
pub(super) struct Inbound {
    limits: Limits,
    inlets: HashMap<u32, Inlet>,
    openings: VecDeque<Opened>,
    accepting: Option<Waker>,
    driver: Waker,
    /// The driver waits for readers.
    stalled: bool,
    /// What [`Limits::unread`] bounds.
    unread: usize,
    /// Came since the session's window was last opened.
    consumed: usize,
    /// The window of each stream, as the peer knows it.
    window: usize,
    /// The peer keeps windows.
    keeps_windows: bool,
    /// The highest id so far.
    last: u32,
    /// Refused since one was taken.
    refused: usize,
    stage: Stage,
    /// [`super::Incoming`] is dropped.
    unattended: bool,
}

/// What is still to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The peer opens no more streams.
    NoMoreStreams,
    Over,
}

/// A stream that came.
pub(super) struct Opened {
    pub stream: u32,
    pub headers: Headers,
    pub unidirectional: bool,
}

/// One stream.
#[derive(Default)]
struct Inlet {
    chunks: VecDeque<Bytes>,
    /// Bytes of chunks, here and with who passes them on.
    unread: usize,
    end: Option<End>,
    reading: Option<Waker>,
    /// Who waits for nothing but a reset.
    watching: Option<Waker>,
    /// Read since the stream's window was last opened.
    consumed: usize,
    /// Nobody reads it.
    discarded: bool,
    /// It was reset here, for what it left unread.
    stalled: bool,
}

/// Why a stream was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its peer has reset it, or the session is over.
    Reset,
    /// It was not read, and others waited behind it for too long ([`Limits::stall`]).
    Stalled,
}

/// Why nothing more comes.
#[derive(Clone, Copy)]
enum End {
    Fin,
    Reset(ResetStatus),
    Over,
}

/// What to tell the peer after something came or was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Credit {
    /// For the stream.
    pub stream: usize,
    /// For the session.
    pub session: usize,
}

/// What becomes of a stream that the peer opens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody will accept it.
    Taken,
    /// Not now.
    Refused,
}

/// How data was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// It waits for its reader, or nobody wants it.
    Kept(Credit),
    /// Its sender had ended the stream.
    AfterEnd(Credit),
}

impl Inbound {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            inlets: HashMap::new(),
            openings: VecDeque::new(),
            accepting: None,
            driver: Waker::noop().clone(),
            stalled: false,
            unread: 0,
            consumed: 0,
            window: WINDOW,
            keeps_windows: false,
            last: 0,
            refused: 0,
            stage: Stage::Open,
            unattended: false,
        }
    }

    /// How many bytes may still come. After 0, nothing may before half of the bound is free, and `waker`
    /// is woken then: who takes a trickle holds the others up as well as who takes nothing.
    pub fn room(&mut self, waker: &Waker) -> usize {
        self.driver.clone_from(waker);
        self.stalled |= self.unread >= self.limits.unread;
        if self.stalled {
            return 0;
        }
        self.limits.unread - self.unread
    }

    /// The peer keeps windows. Says whether that was not known.
    pub fn keeps_windows(&mut self) -> bool {
        !std::mem::replace(&mut self.keeps_windows, true)
    }

    /// The window that each stream shall have from now on, where the peer has to be told.
    pub fn new_window(&mut self) -> Option<usize> {
        if !self.keeps_windows {
            return None;
        }
        let reading = self.inlets.values().filter(|inlet| !inlet.discarded);
        let window = match reading.count() {
            0 | 1 => WINDOW,
            // An eighth is left for what chunks cost.
            many => (self.limits.unread / many.next_power_of_two() / 8 * 7)
                .saturating_sub(CHUNK)
                .clamp(LEAST_WINDOW, WINDOW),
        };
        let told = std::mem::replace(&mut self.window, window);
        (window != told).then_some(window)
    }

    /// Nothing is open, and nothing will be.
    pub fn is_done(&self) -> bool {
        self.unattended && self.inlets.is_empty()
    }

    /// The highest id so far.
    pub fn last(&self) -> u32 {
        self.last
    }

    pub fn open(&mut self, opened: Opened, fin: bool) -> Result<Verdict, SpdyError> {
        let (stream, last) = (opened.stream, self.last);
        if stream.is_multiple_of(2) || stream <= last {
            return Err(SpdyError::StreamId { stream, last });
        }
        self.last = stream;
        let full = self.inlets.len() >= self.limits.streams;
        if full || self.unattended || self.stage != Stage::Open {
            return self.refuse();
        }
        self.refused = 0;
        self.unread += opened.headers.cost();
        let end = fin.then_some(End::Fin);
        let inlet = Inlet {
            end,
            ..Inlet::default()
        };
        self.inlets.insert(stream, inlet);
        self.openings.push_back(opened);
        wake(&mut self.accepting);
        Ok(Verdict::Taken)
    }

    fn refuse(&mut self) -> Result<Verdict, SpdyError> {
        self.refused += 1;
        if self.refused > self.limits.streams {
            return Err(SpdyError::TooManyStreams(self.inlets.len()));
        }
        Ok(Verdict::Refused)
    }

    pub fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<Option<Opened>> {
        match self.openings.pop_front() {
            Some(opened) => Poll::Ready(Some(opened)),
            None if self.stage != Stage::Open => Poll::Ready(None),
            None => {
                wait(&mut self.accepting, cx.waker());
                Poll::Pending
            }
        }
    }

    /// The headers of an accepted stream are dropped.
    pub fn forget_headers(&mut self, cost: usize) {
        self.release(cost);
    }

    /// Nobody accepts any more. Gives the streams that nobody has accepted.
    pub fn unattended(&mut self) -> Vec<Opened> {
        self.unattended = true;
        self.driver.wake_by_ref();
        self.openings.drain(..).collect()
    }

    /// Bytes of a data frame.
    pub fn receive(&mut self, stream: u32, bytes: &[u8], fin: bool) -> Result<Receipt, SpdyError> {
        self.known("DATA", stream)?;
        let mut credit = Credit {
            stream: 0,
            session: self.came(bytes.len()),
        };
        let window = self.window;
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            // Reset a moment ago: the peer may not know.
            return Ok(Receipt::Kept(credit));
        };
        match inlet.end {
            Some(End::Fin) => return Ok(Receipt::AfterEnd(credit)),
            Some(End::Reset(_) | End::Over) => return Ok(Receipt::Kept(credit)),
            None => {}
        }
        if inlet.discarded {
            credit.stream = inlet.consume(bytes.len(), window);
        } else if !bytes.is_empty() {
            inlet.chunks.push_back(Bytes::copy_from_slice(bytes));
            inlet.unread += bytes.len();
            self.unread += bytes.len() + CHUNK;
        }
        if fin {
            inlet.end = Some(End::Fin);
        }
        wake(&mut inlet.reading);
        Ok(Receipt::Kept(credit))
    }

    /// The peer's last word without data.
    pub fn fin(&mut self, frame: &'static str, stream: u32) -> Result<(), SpdyError> {
        self.known(frame, stream)?;
        if let Some(inlet) = self.inlets.get_mut(&stream) {
            inlet.end.get_or_insert(End::Fin);
            wake(&mut inlet.reading);
        }
        Ok(())
    }

    /// Whether the stream was opened ever.
    pub fn known(&self, frame: &'static str, stream: u32) -> Result<(), SpdyError> {
        if stream > self.last || stream.is_multiple_of(2) {
            return Err(SpdyError::NoSuchStream { frame, stream });
        }
        Ok(())
    }

    /// Nothing of it is read any more; who reads hears of it.
    pub fn reset(&mut self, stream: u32, status: ResetStatus) {
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            return;
        };
        inlet.end = Some(End::Reset(status));
        wake(&mut inlet.reading);
        wake(&mut inlet.watching);
        self.throw_away(stream);
    }

    /// The stream is reset, or the session over: also where nobody reads it now.
    pub fn poll_cut(&mut self, stream: u32, cx: &Context<'_>) -> Poll<Cut> {
        let is_over = self.stage == Stage::Over;
        match self.inlets.get_mut(&stream) {
            Some(inlet) if inlet.stalled => Poll::Ready(Cut::Stalled),
            Some(inlet) if !is_over && !matches!(inlet.end, Some(End::Reset(_))) => {
                wait(&mut inlet.watching, cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(Cut::Reset),
        }
    }

    /// The stream of which most is unread, where another may wait behind it: one whose peer may still
    /// say something. It is to be reset, and will know why.
    pub fn staller(&mut self) -> Option<u32> {
        let unread = self.inlets.iter_mut();
        let (stream, inlet) = unread.max_by_key(|(_, inlet)| inlet.unread)?;
        let (stream, unread) = (*stream, inlet.unread);
        let waits = |(other, inlet): (&u32, &Inlet)| {
            *other != stream && !inlet.discarded && inlet.end.is_none()
        };
        if unread == 0 || !self.inlets.iter().any(waits) {
            return None;
        }
        self.inlets.get_mut(&stream)?.stalled = true;
        Some(stream)
    }

    /// Both handles are dropped.
    pub fn forget(&mut self, stream: u32) {
        self.inlets.remove(&stream);
        if self.is_done() {
            self.driver.wake_by_ref();
        }
    }

    pub fn no_more_streams(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::NoMoreStreams;
        }
        wake(&mut self.accepting);
    }

    pub fn over(&mut self) {
        self.stage = Stage::Over;
        self.openings.clear();
        wake(&mut self.accepting);
        for inlet in self.inlets.values_mut() {
            inlet.end.get_or_insert(End::Over);
            wake(&mut inlet.reading);
            wake(&mut inlet.watching);
        }
    }

    fn release(&mut self, cost: usize) {
        self.unread = self.unread.saturating_sub(cost);
        if self.stalled && self.unread <= self.limits.unread / 2 {
            self.stalled = false;
            self.driver.wake_by_ref();
        }
    }

    /// How far the session's window is opened for what came.
    fn came(&mut self, bytes: usize) -> usize {
        self.consumed += bytes;
        due(&mut self.consumed, WINDOW)
    }
}

impl Inlet {
    /// Gives how much was read, and how many chunks are gone.
    fn read(&mut self, buf: &mut ReadBuf<'_>) -> (usize, usize) {
        let (mut taken, mut chunks) = (0, 0);
        while let Some(chunk) = self.chunks.front_mut() {
            let part = chunk.len().min(buf.remaining());
            if part == 0 {
                break;
            }
            buf.put_slice(&chunk[..part]);
            chunk.advance(part);
            taken += part;
            if chunk.is_empty() {
                chunks += 1;
                self.chunks.pop_front();
            }
        }
        (taken, chunks)
    }

    /// How far the stream's window is opened for what was read.
    fn consume(&mut self, bytes: usize, window: usize) -> usize {
        self.consumed += bytes;
        let ended = self.end.is_some();
        if ended {
            0
        } else {
            due(&mut self.consumed, window)
        }
    }
}

/// A window is opened again when half of it was used.
fn due(consumed: &mut usize, window: usize) -> usize {
    if *consumed < window / 2 {
        return 0;
    }
    std::mem::take(consumed)
}

impl End {
    fn result(self) -> io::Result<Credit> {
        match self {
            Self::Fin => Ok(Credit::default()),
            Self::Reset(status) => Err(reset(status)),
            Self::Over => Err(aborted()),
        }
    }
}

/// What a handle hears of a reset.
pub(super) fn reset(status: ResetStatus) -> io::Error {
    let kind = io::ErrorKind::ConnectionReset;
    io::Error::new(kind, format!("the stream was reset: {status}"))
}

/// What a handle hears when the session is over.
pub(super) fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the session is over")
}
