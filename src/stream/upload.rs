//! What a client sends to a pod. It stays where it came to until the pod takes it: who passes it on has
//! no buffer.
//!
//! Invariant: what is not consumed still counts against its session's bound.

use super::spdy::SpdyUpload;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, BufReader};

/// What a client sends.
pub trait Upload: Send + Unpin {
    /// Gives what there is, as far as there are slices for it, and how many were needed; none is the
    /// client's end.
    fn poll_chunks<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        slices: &mut [IoSlice<'a>],
    ) -> Poll<io::Result<usize>>;

    /// So many bytes of it were taken.
    fn consume(&mut self, bytes: usize);
}

impl Upload for SpdyUpload {
    fn poll_chunks<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        slices: &mut [IoSlice<'a>],
    ) -> Poll<io::Result<usize>> {
        self.poll_chunks(cx, slices)
    }

    fn consume(&mut self, bytes: usize) {
        self.consume(bytes);
    }
}

impl<R: AsyncRead + Send + Unpin> Upload for BufReader<R> {
    fn poll_chunks<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        slices: &mut [IoSlice<'a>],
    ) -> Poll<io::Result<usize>> {
        let chunk = ready!(Pin::new(self).poll_fill_buf(cx))?;
        let Some(slice) = slices.first_mut().filter(|_| !chunk.is_empty()) else {
            return Poll::Ready(Ok(0));
        };
        *slice = IoSlice::new(chunk);
        Poll::Ready(Ok(1))
    }

    fn consume(&mut self, bytes: usize) {
        Pin::new(self).consume(bytes);
    }
}
