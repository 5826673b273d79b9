//! What readers take of the reading direction.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::super::session::wait;
use super::{CHUNK, Credit, Inbound, aborted};

impl Inbound {
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
        let (taken, chunks) = inlet.read(buf);
        Poll::Ready(Ok(self.passed(stream, taken, chunks)))
    }

    /// Gives what is unread to who passes it on: it counts as unread until [`Inbound::passed`]. Nothing
    /// is the end.
    pub fn poll_take(
        &mut self,
        stream: u32,
        cx: &Context<'_>,
        into: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<()>> {
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            return Poll::Ready(Err(aborted()));
        };
        match inlet.end {
            _ if !inlet.chunks.is_empty() => into.append(&mut inlet.chunks),
            Some(end) => return Poll::Ready(end.result().map(drop)),
            None => {
                wait(&mut inlet.reading, cx.waker());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// So many bytes are not held any more, and so many chunks.
    pub fn passed(&mut self, stream: u32, bytes: usize, chunks: usize) -> Credit {
        self.release(bytes + chunks * CHUNK);
        let window = self.window;
        let inlet = self.inlets.get_mut(&stream);
        let stream = inlet.map_or(0, |inlet| {
            inlet.unread = inlet.unread.saturating_sub(bytes);
            inlet.consume(bytes, window)
        });
        Credit { stream, session: 0 }
    }

    /// Nobody reads it. Says whether the peer may still send.
    pub fn discard(&mut self, stream: u32) -> bool {
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            return false;
        };
        inlet.discarded = true;
        let unfinished = inlet.end.is_none();
        self.throw_away(stream);
        unfinished
    }

    pub(super) fn throw_away(&mut self, stream: u32) {
        let Some(inlet) = self.inlets.get_mut(&stream) else {
            return;
        };
        let chunks = std::mem::take(&mut inlet.chunks);
        let bytes = chunks.iter().map(Bytes::len).sum();
        inlet.unread = inlet.unread.saturating_sub(bytes);
        self.release(bytes + chunks.len() * CHUNK);
    }
}
