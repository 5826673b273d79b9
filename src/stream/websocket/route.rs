//! Where a channel of a client leads to.
//!
//! Invariant: who reads it hears its end, and who is told of being given up has left its bytes unread.

use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;

/// A channel that somebody reads.
pub struct Route {
    to: DuplexStream,
    /// Is told when others have waited for it for too long; gone with who reads.
    stalled: Option<oneshot::Sender<()>>,
    ended: bool,
}

/// What became of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// They are with who reads.
    Taken,
    /// Nobody reads any more.
    Gone,
    /// Nobody has read them for too long.
    Stalled,
}

impl Route {
    /// To who reads at the other end.
    #[must_use]
    pub fn new(to: DuplexStream) -> Self {
        let stalled = None;
        Self {
            to,
            stalled,
            ended: false,
        }
    }

    /// To who waits for being told that it was given up, too.
    #[must_use]
    pub fn told_of_stalls(mut self, stalled: oneshot::Sender<()>) -> Self {
        self.stalled = Some(stalled);
        self
    }

    /// Whether a client may have more to say here that somebody would read.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let is_read = self
            .stalled
            .as_ref()
            .is_none_or(|reader| !reader.is_closed());
        is_read && !self.ended
    }

    pub(super) async fn feed(&mut self, bytes: &[u8]) -> Fed {
        match self.to.write_all(bytes).await {
            Ok(()) => Fed::Taken,
            Err(_) => Fed::Gone,
        }
    }

    /// The reader of the channel hears its end; what it says itself still comes.
    pub(super) async fn end(&mut self) {
        self.ended = true;
        // Nobody is there to hear it.
        let _ = self.to.shutdown().await;
    }

    pub(super) fn give_up(self) {
        if let Some(stalled) = self.stalled {
            // Nobody is there any more.
            let _ = stalled.send(());
        }
    }
}
