//! The handles: of the session's new streams, of one stream, and of its halves.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::codec::{Frame, Headers, ResetStatus};
use super::inbound::{Credit, Cut, Opened};
use super::outbound::Fill;
use super::session::Session;

/// The streams that the peer opens. Dropping it refuses those to come; the session then ends with
/// its last stream.
pub struct Incoming {
    session: Arc<Session>,
}

impl Incoming {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    /// The next stream, in the order of opening. `None`: no more will come.
    pub async fn accept(&mut self) -> Option<Opening> {
        let opened = poll_fn(|cx| self.session.inbound().poll_accept(cx)).await;
        opened.map(|opened| Opening::new(opened, &self.session))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let left = self.session.inbound().unattended();
        for opened in left {
            Opening::new(opened, &self.session).refuse(ResetStatus::REFUSED_STREAM);
        }
    }
}

/// A stream that waits for its answer. Dropped without one, it is reset.
pub struct Opening {
    /// What the stream is for.
    pub headers: Headers,
    charge: Charge,
    stream: SpdyStream,
}

impl Opening {
    fn new(opened: Opened, session: &Arc<Session>) -> Self {
        let cost = opened.headers.cost();
        Self {
            headers: opened.headers,
            charge: Charge {
                session: session.clone(),
                cost,
            },
            stream: SpdyStream::new(opened.stream, session),
        }
    }

    /// The stream's number, for the log.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.stream.reader.handle.stream
    }

    /// Accepts the stream.
    #[must_use]
    pub fn reply(self) -> SpdyStream {
        drop(self.charge);
        self.stream.reader.handle.accept();
        self.stream
    }

    /// Resets the stream.
    pub fn refuse(self, status: ResetStatus) {
        self.stream.reset(status);
    }
}

/// Headers that count as unread.
struct Charge {
    session: Arc<Session>,
    cost: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.session.inbound().forget_headers(self.cost);
    }
}

/// A stream that was accepted.
pub struct SpdyStream {
    reader: SpdyReader,
    writer: SpdyWriter,
}

impl SpdyStream {
    fn new(stream: u32, session: &Arc<Session>) -> Self {
        let session = session.clone();
        let handle = Arc::new(Handle { stream, session });
        let writer = SpdyWriter {
            handle: handle.clone(),
        };
        let reader = SpdyReader {
            handle,
            keeps: false,
        };
        Self { reader, writer }
    }

    /// Its two directions.
    #[must_use]
    pub fn split(self) -> (SpdyReader, SpdyWriter) {
        (self.reader, self.writer)
    }

    /// For a stream that is only written to: what the peer sends there is passed over.
    #[must_use]
    pub fn into_writer(mut self) -> SpdyWriter {
        self.reader.keeps = true;
        self.writer
    }

    /// Ends both directions at once.
    pub fn reset(self, status: ResetStatus) {
        self.reader.reset(status);
    }
}

/// What both halves have: the stream is forgotten with the last of them.
struct Handle {
    stream: u32,
    session: Arc<Session>,
}

impl Handle {
    fn accept(&self) {
        self.session.outbound().reply(self.stream);
    }

    /// Lets the peer send on.
    fn give(&self, credit: &Credit) {
        if *credit != Credit::default() {
            self.session.give(self.stream, credit);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.session.outbound().forget(self.stream);
        self.session.inbound().forget(self.stream);
        self.session.share_window();
    }
}

impl SpdyReader {
    /// Waits until the stream is reset or the session over: also while what the peer sends is not
    /// read. The stream is not forgotten before this future is.
    pub fn until_cut(&self) -> impl Future<Output = Cut> + Send + use<> {
        let handle = self.handle.clone();
        poll_fn(move |cx| handle.session.inbound().poll_cut(handle.stream, cx))
    }

    /// For who passes on what the peer sends, from where it came to.
    #[must_use]
    pub fn into_upload(self) -> SpdyUpload {
        let held = VecDeque::new();
        SpdyUpload { reader: self, held }
    }
}

/// What the peer sends. Its end is the peer's end of the stream; a reset and the end of the session
/// are errors (`ConnectionReset`, `ConnectionAborted`). Dropped before its end, it resets the stream.
pub struct SpdyReader {
    handle: Arc<Handle>,
    /// Dropping it is no reset.
    keeps: bool,
}

impl SpdyReader {
    /// Ends both directions at once.
    pub fn reset(&self, status: ResetStatus) {
        self.handle.session.reset(self.handle.stream, status);
    }
}

impl AsyncRead for SpdyReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let handle = &self.handle;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = handle.session.inbound().poll_read(handle.stream, cx, buf);
        read.map_ok(|credit| handle.give(&credit))
    }
}

impl Drop for SpdyReader {
    fn drop(&mut self) {
        let unfinished = self.handle.session.inbound().discard(self.handle.stream);
        if unfinished && !self.keeps {
            self.reset(ResetStatus::CANCEL);
        }
    }
}

/// What the peer sends, not copied any more: it counts as unread until it is consumed. Else as a
/// [`SpdyReader`].
pub struct SpdyUpload {
    reader: SpdyReader,
    held: VecDeque<Bytes>,
}

impl SpdyUpload {
    /// Gives what there is, as far as there are slices for it, and how many were needed; none is the
    /// peer's end.
    pub fn poll_chunks<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        slices: &mut [IoSlice<'a>],
    ) -> Poll<io::Result<usize>> {
        if self.held.is_empty() {
            let Handle { stream, session } = &*self.reader.handle;
            let mut inbound = session.inbound();
            ready!(inbound.poll_take(*stream, cx, &mut self.held))?;
        }
        let mut used = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.held) {
            *slice = IoSlice::new(chunk);
            used += 1;
        }
        Poll::Ready(Ok(used))
    }

    /// So many bytes of it were passed on.
    pub fn consume(&mut self, mut bytes: usize) {
        let (passed, mut chunks) = (bytes, 0);
        while let Some(chunk) = self.held.front_mut() {
            let part = chunk.len().min(bytes);
            chunk.advance(part);
            bytes -= part;
            if !chunk.is_empty() {
                break;
            }
            self.held.pop_front();
            chunks += 1;
        }
        let handle = &self.reader.handle;
        let credit = handle
            .session
            .inbound()
            .passed(handle.stream, passed, chunks);
        handle.give(&credit);
    }
}

impl Drop for SpdyUpload {
    fn drop(&mut self) {
        let left = self.held.iter().map(Bytes::len).sum();
        let Handle { stream, session } = &*self.reader.handle;
        // What nobody has taken opens no window.
        let _ = session.inbound().passed(*stream, left, self.held.len());
    }
}

/// What is sent to the peer. A write takes at most one frame (32 KiB) and is on its way then; a flush
/// waits until the connection has taken all of it. `shutdown` ends this direction; dropped before that,
/// it resets the stream.
pub struct SpdyWriter {
    handle: Arc<Handle>,
}

impl SpdyWriter {
    /// Ends both directions at once.
    pub fn reset(&self, status: ResetStatus) {
        self.handle.session.reset(self.handle.stream, status);
    }

    /// Writes one frame of what `fill` gives, once the connection takes it: who waits for that has
    /// nothing in its hands. Nothing written is what `fill` says with 0; so are its errors.
    ///
    /// # Errors
    /// Those of `fill`, and those of a write.
    pub async fn relay(&mut self, fill: &mut Fill<'_>) -> io::Result<usize> {
        poll_fn(|cx| {
            let mut outbound = self.handle.session.outbound();
            outbound.poll_relay(self.handle.stream, fill, cx.waker())
        })
        .await
    }
}

impl AsyncWrite for SpdyWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut outbound = self.handle.session.outbound();
        outbound.poll_data(self.handle.stream, data, cx.waker())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbound = self.handle.session.outbound();
        outbound.poll_taken(self.handle.stream, cx.waker()).map(Ok)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.handle.session.outbound().fin(self.handle.stream))
    }
}

impl Drop for SpdyWriter {
    fn drop(&mut self) {
        let unfinished = self
            .handle
            .session
            .outbound()
            .is_unfinished(self.handle.stream);
        if unfinished {
            self.reset(ResetStatus::CANCEL);
        }
    }
}

impl Session {
    /// Opens windows again.
    pub(super) fn give(&self, stream: u32, credit: &Credit) {
        let mut outbound = self.outbound();
        for (stream, bytes) in [(stream, credit.stream), (0, credit.session)] {
            if let Ok(delta @ 1..) = u32::try_from(bytes) {
                outbound.send(&Frame::WindowUpdate { stream, delta });
            }
        }
    }
}
