//! The reading direction: what came for each stream and was not read, and streams that nobody has
//! accepted. All of it counts against one bound.

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
    /// Read since the session's window was last opened.
    consumed: usize,
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
    end: Option<End>,
    reading: Option<Waker>,
    /// Who waits for nothing but a reset.
    watching: Option<Waker>,
    /// Read since the stream's window was last opened.
    consumed: usize,
    /// Nobody reads it.
    discarded: bool,
}

/// Why nothing more comes.
#[derive(Clone, Copy)]
enum End {
    Fin,
    Reset(ResetStatus),
    Over,
}

/// What to tell the peer after something was read.
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
            last: 0,
            refused: 0,
            stage: Stage::Open,
            unattended: false,
        }
    }

    /// How many bytes may still come. After 0, `waker` is woken when half of the bound is free.
    pub fn room(&mut self, waker: &Waker) -> usize {
        self.driver.clone_from(waker);
        let room = self.limits.unread.saturating_sub(self.unread);
        self.stalled = room == 0;
        room
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
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            // Reset a moment ago: the peer may not know.
            return Ok(Receipt::Kept(self.pass_over(bytes.len())));
        };
        match inlet.end {
            Some(End::Fin) => return Ok(Receipt::AfterEnd(self.pass_over(bytes.len()))),
            Some(End::Reset(_) | End::Over) => {
                return Ok(Receipt::Kept(self.pass_over(bytes.len())));
            }
            None => {}
        }
        let mut credit = Credit::default();
        if inlet.discarded {
            credit = inlet.consume(bytes.len());
        } else if !bytes.is_empty() {
            inlet.chunks.push_back(Bytes::copy_from_slice(bytes));
            self.unread += bytes.len() + CHUNK;
        }
        if fin {
            inlet.end = Some(End::Fin);
        }
        wake(&mut inlet.reading);
        let passed = if inlet.discarded { bytes.len() } else { 0 };
        credit.session = self.pass_over(passed).session;
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
    pub fn reset(&mut self, stream: u32, status: ResetStatus) -> Credit {
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            return Credit::default();
        };
        inlet.end = Some(End::Reset(status));
        wake(&mut inlet.reading);
        wake(&mut inlet.watching);
        self.throw_away(stream)
    }

    /// The stream is reset, or the session over: also where nobody reads it now.
    pub fn poll_reset(&mut self, stream: u32, cx: &Context<'_>) -> Poll<()> {
        let is_over = self.stage == Stage::Over;
        match self.inlets.get_mut(&stream) {
            Some(inlet) if !is_over && !matches!(inlet.end, Some(End::Reset(_))) => {
                wait(&mut inlet.watching, cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// The stream of which most is unread.
    pub fn staller(&self) -> Option<u32> {
        let unread = |inlet: &Inlet| inlet.chunks.iter().map(Bytes::len).sum::<usize>();
        let most = self.inlets.iter().max_by_key(|(_, inlet)| unread(inlet));
        let (stream, inlet) = most?;
        (unread(inlet) > 0).then_some(*stream)
    }

    /// There are streams besides one and the error stream that belongs to it.
    pub fn has_others(&self) -> bool {
        self.inlets.len() > 2
    }

    pub fn poll_read(
        &mut self,
        stream: u32,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Credit>> {
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            return Poll::Ready(Err(aborted()));
        };
        if inlet.chunks.is_empty() {
            return match inlet.end {
                Some(end) => Poll::Ready(end.result()),
                None => {
                    wait(&mut inlet.reading, cx.waker());
                    Poll::Pending
                }
            };
        }
        let (taken, freed) = inlet.read(buf);
        let stream_credit = inlet.consume(taken);
        self.release(freed);
        let session = self.pass_over(taken).session;
        Poll::Ready(Ok(Credit {
            session,
            ..stream_credit
        }))
    }

    /// Nobody reads it. Says whether the peer may still send.
    pub fn discard(&mut self, stream: u32) -> (bool, Credit) {
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            return (false, Credit::default());
        };
        inlet.discarded = true;
        let unfinished = inlet.end.is_none();
        (unfinished, self.throw_away(stream))
    }

    /// What nobody will read is as good as read for the session's window.
    fn throw_away(&mut self, stream: u32) -> Credit {
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            return Credit::default();
        };
        let chunks = std::mem::take(&mut inlet.chunks);
        let bytes = chunks.iter().map(Bytes::len).sum();
        self.release(bytes + chunks.len() * CHUNK);
        self.pass_over(bytes)
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

    /// Bytes that are not held any more, or never were.
    fn pass_over(&mut self, bytes: usize) -> Credit {
        self.consumed += bytes;
        let session = due(&mut self.consumed);
        Credit { stream: 0, session }
    }
}

impl Inlet {
    /// Gives what was read, and what is free now.
    fn read(&mut self, buf: &mut ReadBuf<'_>) -> (usize, usize) {
        let (mut taken, mut freed) = (0, 0);
        while let Some(chunk) = self.chunks.front_mut() {
            let part = chunk.len().min(buf.remaining());
            if part == 0 {
                break;
            }
            buf.put_slice(&chunk[..part]);
            chunk.advance(part);
            taken += part;
            if chunk.is_empty() {
                freed += CHUNK;
                self.chunks.pop_front();
            }
        }
        (taken, freed + taken)
    }

    fn consume(&mut self, bytes: usize) -> Credit {
        self.consumed += bytes;
        let ended = self.end.is_some();
        let stream = if ended { 0 } else { due(&mut self.consumed) };
        Credit { stream, session: 0 }
    }
}

/// A window is opened again when half of it was used.
fn due(consumed: &mut usize) -> usize {
    if *consumed < WINDOW / 2 {
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
