//! Another protocol inside of a WebSocket: a connection of its own, whose bytes are those of binary
//! messages.
//!
//! Nothing of what is written is kept. A message is as long as the write that began it; where the
//! connection takes a part of that, the next bytes that are written are the ones that it lacks.
//! What else there is to say waits for the end of the message. What comes is read to where it is
//! wanted, and its frames are taken away there.
//!
//! Invariant: what is held is less than a kilobyte.

use super::connection::{Close, Io};
use super::frames::{Frames, Header, LEAST_ROOM, Piece};
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Room for a read, in bytes: who wants less gets it from what is held.
const ROOM: usize = 512;
const _: () = assert!(ROOM > LEAST_ROOM);
/// Parts of a write that go out in one call, besides what goes before them.
const PARTS: usize = 3;

/// The connection inside. Its end is the client's goodbye or the end of the one outside; shut down, it
/// says goodbye itself.
pub struct Tunnel {
    io: Io,
    frames: Frames,
    /// A frame's beginning, of which more is needed.
    rest: BytesMut,
    /// A message's bytes that were read and not wanted yet.
    held: BytesMut,
    /// The client says no more.
    ended: bool,
    /// Goes out before anything else: headers, and frames that are no message's.
    before: BytesMut,
    /// How many bytes the message that was begun lacks.
    owed: usize,
    /// A frame that waits for the end of the message. Of several pings the last one is answered.
    waiting: BytesMut,
    /// Goodbye is said, or will be: nothing comes after it.
    closed: bool,
}

impl Tunnel {
    /// Through a connection whose handshake is over.
    #[must_use]
    pub fn new(io: Io) -> Self {
        Self {
            io,
            frames: Frames::default(),
            rest: BytesMut::new(),
            held: BytesMut::new(),
            ended: false,
            before: BytesMut::new(),
            owed: 0,
            waiting: BytesMut::new(),
            closed: false,
        }
    }

    /// Reads once into a buffer with [`ROOM`], and leaves there what is a message's: maybe nothing.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let space = buffer.initialize_unfilled();
        let kept = self.rest.len();
        let mut behind = ReadBuf::new(&mut space[kept..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut behind))?;
        let read = behind.filled().len();
        if read == 0 {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        space[..kept].copy_from_slice(&self.rest);
        let wanted = self.take_frames(&mut space[..kept + read])?;
        buffer.advance(wanted);
        Poll::Ready(Ok(()))
    }

    /// Takes the frames away; gives how many bytes at the beginning are a message's then.
    fn take_frames(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut wanted) = (0, 0);
        while !self.ended {
            let piece = self.frames.next(&mut bytes[at..]);
            let Some((taken, piece)) = piece.map_err(io::Error::other)? else {
                break;
            };
            match piece {
                Piece::Data { payload, .. } => {
                    let length = payload.len();
                    bytes.copy_within(at + payload.start..at + payload.end, wanted);
                    wanted += length;
                }
                Piece::Ping(payload) if !self.closed => {
                    let payload = &bytes[at + payload.start..at + payload.end];
                    self.waiting = control(Control::Pong, payload);
                }
                Piece::Ping(_) | Piece::Pong => {}
                Piece::Close => {
                    self.ended = true;
                    self.say_goodbye();
                }
            }
            at += taken;
        }
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[at..]);
        Ok(wanted)
    }

    fn say_goodbye(&mut self) {
        if !self.closed {
            self.closed = true;
            self.waiting = control(Control::Close, &Close::Normal.code().to_be_bytes());
        }
    }

    /// Lets what waits go out, where no message lacks anything.
    fn release(&mut self) {
        if self.owed == 0 {
            self.before.unsplit(std::mem::take(&mut self.waiting));
        }
    }

    /// Sends what goes before a message.
    fn poll_before(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.release();
        while !self.before.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.before))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.before.advance(written);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Answers pings and goodbyes as far as the connection takes it now.
    fn answer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let has_answer = self.owed == 0 && !self.waiting.is_empty();
        match has_answer.then(|| self.poll_before(cx)) {
            Some(Poll::Ready(done)) => done,
            Some(Poll::Pending) | None => Ok(()),
        }
    }

    /// Begins a message of so many bytes, unless one lacks some.
    fn begin(&mut self, length: usize) -> io::Result<()> {
        if self.owed > 0 {
            return Ok(());
        }
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.release();
        let header = Header::new(OpCode::Data(Data::Binary), length);
        self.before.extend_from_slice(header.bytes());
        self.owed = length;
        Ok(())
    }

    /// Writes once; gives how many of the message's bytes that were.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); PARTS + 1];
        slices[0] = IoSlice::new(&self.before);
        let mut left = self.owed;
        for (slice, part) in slices[1..].iter_mut().zip(parts) {
            let here = part.len().min(left);
            *slice = IoSlice::new(&part[..here]);
            left -= here;
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let first = written.min(self.before.len());
        self.before.advance(first);
        self.owed -= written - first;
        Poll::Ready(Ok(written - first))
    }
}

/// A whole control frame.
fn control(kind: Control, payload: &[u8]) -> BytesMut {
    let header = Header::new(OpCode::Control(kind), payload.len());
    let mut frame = BytesMut::from(header.bytes());
    frame.extend_from_slice(payload);
    frame
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        loop {
            this.answer(cx)?;
            let held = this.held.len().min(buffer.remaining());
            buffer.put_slice(&this.held.split_to(held));
            if buffer.filled().len() > before || this.ended {
                return Poll::Ready(Ok(()));
            }
            if buffer.remaining() >= ROOM {
                ready!(this.poll_fill(cx, buffer))?;
            } else {
                let mut room = [0; ROOM];
                let mut small = ReadBuf::new(&mut room);
                ready!(this.poll_fill(cx, &mut small))?;
                this.held.extend_from_slice(small.filled());
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = parts.iter().map(|part| part.len()).sum();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        this.begin(length)?;
        loop {
            // A header alone is nothing to who writes.
            match ready!(this.poll_send(cx, parts))? {
                0 => {}
                sent => return Poll::Ready(Ok(sent)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_before(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.say_goodbye();
        ready!(this.poll_before(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
