//! A direction to the client, whatever it speaks.
//!
//! Invariant: dropped without [`Outlet::finish`], the client hears that it was cut off where the
//! protocol can say so.

use super::source::Mouth;
use super::spdy::{Fill, SpdyWriter};
use super::websocket::Sender;
use bytes::{BufMut, BytesMut};
use std::io;
use tokio::io::AsyncWriteExt;

/// The most that is passed on at once, in bytes.
pub(super) const PASSED_ON: usize = 32 * 1024;

/// A direction to the client.
pub enum Outlet {
    /// A channel of a WebSocket that lasts as long as its session: clients of exec and attach half-close
    /// theirs (v5), and take the same from a server for noise that they complain about.
    Channel(Sender, u8),
    /// A channel of a WebSocket that ends for itself, where the protocol can say so.
    Port(Sender, u8),
    /// A stream of SPDY that passes on what somebody else says.
    Relay(SpdyWriter),
    /// A stream of its own.
    Stream(Mouth),
}

impl Outlet {
    /// Writes all. Some of it may still be kept here then.
    ///
    /// # Errors
    /// Where the client does not take it any more.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Channel(sender, channel) | Self::Port(sender, channel) => {
                sender.message(*channel, bytes).await
            }
            Self::Relay(stream) => stream.write_all(bytes).await,
            Self::Stream(stream) => stream.write_all(bytes).await,
        }
    }

    /// Passes on what `fill` reads, once the client takes something: who waits for that holds nothing.
    /// What the client does not take of it is kept by the transport, once for all of a session.
    ///
    /// # Errors
    /// Those of `fill`, and as [`Outlet::write`].
    pub async fn relay(&mut self, fill: &mut Fill<'_>) -> io::Result<usize> {
        match self {
            Self::Channel(sender, channel) | Self::Port(sender, channel) => {
                sender.relay(*channel, PASSED_ON, fill).await
            }
            Self::Relay(stream) => stream.relay(fill).await,
            Self::Stream(stream) => {
                stream.flush().await?;
                let mut bytes = BytesMut::with_capacity(PASSED_ON);
                let read = fill(&mut (&mut bytes).limit(PASSED_ON))?;
                stream.write_all(&bytes).await?;
                Ok(read)
            }
        }
    }

    /// Waits until nothing is kept of what was written: who has more to say needs no place for it
    /// before that.
    ///
    /// # Errors
    /// As [`Outlet::write`].
    pub async fn taken(&mut self) -> io::Result<()> {
        match self {
            Self::Channel(..) | Self::Port(..) => Ok(()),
            Self::Relay(stream) => stream.flush().await,
            Self::Stream(stream) => stream.flush().await,
        }
    }

    /// Whether the client is told of the end of this direction alone.
    #[must_use]
    pub fn can_end(&self) -> bool {
        match self {
            Self::Channel(..) => false,
            Self::Port(sender, _) => sender.can_end(),
            Self::Relay(_) | Self::Stream(_) => true,
        }
    }

    /// Whether a client that reads something here goes on with its other connections. client-go, which
    /// speaks SPDY, gives up its whole session.
    #[must_use]
    pub fn bears_a_reason(&self) -> bool {
        matches!(self, Self::Port(..))
    }

    /// Nothing more will come.
    ///
    /// # Errors
    /// Where the client cannot be told.
    pub async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Channel(..) => Ok(()),
            Self::Port(sender, channel) => sender.end(*channel).await,
            Self::Relay(stream) => stream.shutdown().await,
            Self::Stream(stream) => stream.shutdown().await,
        }
    }

    /// Nothing more will come, and not because all was said: a stream is reset; a channel can only
    /// end.
    pub async fn abandon(mut self) {
        if matches!(self, Self::Port(..)) {
            // The client has gone.
            let _ = self.finish().await;
        }
    }
}
