//! The two directions of a WebSocket after its handshake: frames go out one at a time, what comes in
//! goes to where its channel leads.
//!
//! There is no flow control between the channels of a WebSocket: while one is not read, the
//! connection is not read. A client that is held back so hears a pong from time to time, since those
//! of its own pings stand in the queue behind its bytes. Where others may wait behind such a channel, it
//! is given up after a time ([`Receiver::with_stall`]).
//!
//! Invariant: a frame is written whole. What is left of one whose writer was dropped in the middle goes
//! before the next.

use super::channels::{ChannelError, Channels, Coding, Said};
use super::frames::{Header, LEAST_ROOM};
use super::route::{Fed, Route};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::buf::Limit;
use bytes::{Buf, BufMut, BytesMut};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// How much is read at once, in bytes.
pub const READ: usize = 32 * 1024;
const _: () = assert!(READ >= LEAST_ROOM);
/// How often a client that is held back hears of us. kubectl gives up after a minute of silence.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// A connection of any kind.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection whose handshake is over.
pub type Io = Box<dyn Duplex>;

/// Why a connection closes (RFC 6455, 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// All was said.
    Normal,
    /// The client does not speak the protocol.
    Protocol,
}

impl Close {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
        }
    }
}

/// Why no more comes.
#[derive(Debug)]
pub enum Over {
    /// The client closed, or has gone.
    Closed,
    /// The connection broke.
    Broken(io::Error),
    /// The client does not speak the protocol.
    Wrong(ChannelError),
}

/// Splits a connection into its directions.
#[must_use]
pub fn open(io: Io, coding: Coding) -> (Receiver, Sender) {
    let (read, write) = tokio::io::split(io);
    let receiver = Receiver {
        io: read,
        held: vec![0; READ],
        filled: 0,
        channels: Channels::new(coding),
        stall: None,
    };
    let sending = Sending {
        io: write,
        rest: BytesMut::new(),
    };
    let sender = Sender {
        sending: Arc::new(Mutex::new(sending)),
        coding,
    };
    (receiver, sender)
}

/// The direction to the client; all copies write to the same connection.
#[derive(Clone)]
pub struct Sender {
    sending: Arc<Mutex<Sending>>,
    coding: Coding,
}

struct Sending {
    io: WriteHalf<Io>,
    /// The end of a frame that was begun and given up: at most one frame.
    rest: BytesMut,
}

impl Sending {
    /// Ends the frame that was given up. Dropped, it has only less left to do.
    async fn mend(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.io.write(&self.rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.rest.advance(written),
            }
        }
        // Of no use any more.
        self.rest = BytesMut::new();
        Ok(())
    }
}

/// A frame on its way. Dropped in the middle, it leaves its end to who writes next.
struct Underway<'a> {
    sending: MutexGuard<'a, Sending>,
    parts: [&'a [u8]; 3],
    written: usize,
}

impl Underway<'_> {
    async fn write_all(&mut self) -> io::Result<()> {
        let length: usize = self.parts.iter().map(|part| part.len()).sum();
        while self.written < length {
            let mut slices = self.parts.map(IoSlice::new);
            let mut left = &mut slices[..];
            IoSlice::advance_slices(&mut left, self.written);
            match self.sending.io.write_vectored(left).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.written += written,
            }
        }
        self.sending.io.flush().await
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        // Of one that was not begun nothing is missed.
        if self.written == 0 {
            return;
        }
        let mut past = self.written;
        for part in self.parts {
            let skipped = past.min(part.len());
            past -= skipped;
            self.sending.rest.extend_from_slice(&part[skipped..]);
        }
    }
}

impl Sender {
    /// A message for a channel.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub async fn message(&self, channel: u8, payload: &[u8]) -> io::Result<()> {
        let turn = self.sending.lock().await;
        self.say(turn, channel, payload).await
    }

    /// A message of what `fill` reads, at most so many bytes, when it is its turn: who waits for that
    /// holds nothing. Nothing is sent where `fill` gives nothing.
    ///
    /// # Errors
    /// Those of `fill`, and as [`Sender::message`].
    pub async fn relay(
        &self,
        channel: u8,
        most: usize,
        fill: &mut (dyn FnMut(&mut Limit<&mut BytesMut>) -> io::Result<usize> + Send + '_),
    ) -> io::Result<usize> {
        let turn = self.sending.lock().await;
        let mut payload = BytesMut::with_capacity(most);
        let read = fill(&mut (&mut payload).limit(most))?;
        if read > 0 {
            self.say(turn, channel, &payload).await?;
        }
        Ok(read)
    }

    async fn say(
        &self,
        turn: MutexGuard<'_, Sending>,
        channel: u8,
        payload: &[u8],
    ) -> io::Result<()> {
        match self.coding {
            Coding::Base64 => {
                let text = STANDARD.encode(payload);
                let digit = channel.wrapping_add(b'0');
                frame(turn, OpCode::Data(Data::Text), &[digit], text.as_bytes()).await
            }
            Coding::Binary | Coding::BinaryHalfClose => {
                frame(turn, OpCode::Data(Data::Binary), &[channel], payload).await
            }
        }
    }

    /// Whether the protocol can tell that a channel has no more.
    #[must_use]
    pub fn can_end(&self) -> bool {
        self.coding == Coding::BinaryHalfClose
    }

    /// Tells that a channel has no more, where the protocol has a way to.
    ///
    /// # Errors
    /// As [`Sender::message`].
    pub async fn end(&self, channel: u8) -> io::Result<()> {
        match self.coding {
            Coding::BinaryHalfClose => {
                let turn = self.sending.lock().await;
                frame(turn, OpCode::Data(Data::Binary), &[255], &[channel]).await
            }
            Coding::Binary | Coding::Base64 => Ok(()),
        }
    }

    async fn pong(&self, payload: &[u8]) -> io::Result<()> {
        let turn = self.sending.lock().await;
        frame(turn, OpCode::Control(Control::Pong), &[], payload).await
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// As [`Sender::message`].
    pub async fn close(&self, why: Close) -> io::Result<()> {
        let code = why.code().to_be_bytes();
        let turn = self.sending.lock().await;
        frame(turn, OpCode::Control(Control::Close), &[], &code).await?;
        self.sending.lock().await.io.shutdown().await
    }
}

async fn frame(
    mut sending: MutexGuard<'_, Sending>,
    opcode: OpCode,
    first: &[u8],
    payload: &[u8],
) -> io::Result<()> {
    let header = Header::new(opcode, first.len() + payload.len());
    sending.mend().await?;
    let mut underway = Underway {
        sending,
        parts: [header.bytes(), first, payload],
        written: 0,
    };
    underway.write_all().await
}

/// The direction from the client.
pub struct Receiver {
    io: ReadHalf<Io>,
    held: Vec<u8>,
    filled: usize,
    channels: Channels,
    stall: Option<Duration>,
}

impl Receiver {
    /// A channel that is not read is given up after so long where others may wait behind it.
    #[must_use]
    pub fn with_stall(mut self, limit: Duration) -> Self {
        self.stall = Some(limit);
        self
    }

    /// Reads until the client closes, and passes on what it says: channel N to the N-th route, as
    /// far as there is one and somebody reads it.
    pub async fn pass_on(&mut self, routes: &mut [Option<Route>], sender: &Sender) -> Over {
        loop {
            match self.passed(routes, sender).await {
                Ok(true) => {}
                Ok(false) => return Over::Closed,
                Err(over) => return over,
            }
            match self.io.read(&mut self.held[self.filled..]).await {
                Ok(0) => return Over::Closed,
                Ok(read) => self.filled += read,
                Err(error) => return Over::Broken(error),
            }
        }
    }

    /// Reads to the client's end, whatever it says: a connection that is closed with unread bytes takes
    /// back what was sent.
    pub async fn drain(&mut self) {
        while let Ok(1..) = self.io.read(&mut self.held).await {}
    }

    /// Passes on all that is held and whole; whether the client goes on.
    async fn passed(
        &mut self,
        routes: &mut [Option<Route>],
        sender: &Sender,
    ) -> Result<bool, Over> {
        let mut at = 0;
        loop {
            let said = self.channels.next(&mut self.held[at..self.filled]);
            let Some((taken, said)) = said.map_err(Over::Wrong)? else {
                break;
            };
            match said {
                Said::Bytes(channel, bytes) => {
                    let limit = self.stall.filter(|_| others_wait(routes, channel));
                    if let Some(route) = routes.get_mut(usize::from(channel)) {
                        feed(route, bytes, (sender, limit)).await;
                    }
                }
                Said::End(channel) => {
                    if let Some(Some(route)) = routes.get_mut(usize::from(channel)) {
                        route.end().await;
                    }
                }
                Said::Ping(payload) => sender.pong(payload).await.map_err(Over::Broken)?,
                Said::Nothing => {}
                Said::Close => return Ok(false),
            }
            at += taken;
        }
        self.held.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(true)
    }
}

/// Whether a client may have something to say on another channel.
fn others_wait(routes: &[Option<Route>], channel: u8) -> bool {
    let mut others = routes.iter().zip(0..);
    others.any(|(route, at)| at != channel && route.as_ref().is_some_and(Route::is_open))
}

/// Waits until a channel has taken the bytes; one that nobody reads any more takes all, and so does one
/// that others have waited for long enough.
async fn feed(
    place: &mut Option<Route>,
    bytes: &[u8],
    (sender, limit): (&Sender, Option<Duration>),
) {
    let Some(route) = place else { return };
    let began = Instant::now();
    let fed = {
        let mut taken = std::pin::pin!(route.feed(bytes));
        loop {
            match tokio::time::timeout(SIGN_OF_LIFE, &mut taken).await {
                Ok(fed) => break fed,
                Err(_) if limit.is_some_and(|limit| began.elapsed() >= limit) => {
                    break Fed::Stalled;
                }
                // Where it cannot be sent the connection is broken, which the next read finds.
                Err(_) => drop(sender.pong(&[]).await),
            }
        }
    };
    match fed {
        Fed::Taken => {}
        Fed::Gone => *place = None,
        Fed::Stalled => {
            if let Some(route) = place.take() {
                route.give_up();
            }
        }
    }
}
