//! How bytes go to the connection, and what it has not taken is kept.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::super::codec::data_header;
use super::super::session::wake;
use super::{CONTROL, Connection, LARGEST, Outbound};

impl Outbound {
    /// Nothing is pending.
    pub(super) fn put_data(&mut self, stream: u32, data: &[u8]) {
        self.charge(stream, data.len());
        let head = data_header(stream, data.len(), false);
        let sent = if self.is_vectored() {
            self.try_write(&head, data)
        } else {
            0
        };
        let data = &data[sent.saturating_sub(head.len())..];
        let head = head.get(sent..).unwrap_or_default();
        self.make_room(head.len() + data.len());
        self.pending.extend_from_slice(head);
        self.pending.extend_from_slice(data);
        self.flush();
    }

    /// The stream has used its turn, and so much of the windows.
    pub(super) fn charge(&mut self, stream: u32, length: usize) {
        let length = i64::try_from(length).unwrap_or(LARGEST);
        self.session.left -= length;
        if let Some(outlet) = self.outlets.get_mut(&stream) {
            outlet.window -= length;
            outlet.called = false;
        }
    }

    /// Makes place for so much more than is pending. Grown by itself it would take twice as much.
    pub(super) fn make_room(&mut self, more: usize) {
        if self.pending.capacity() - self.pending.len() >= more || self.pending.try_reclaim(more) {
            return;
        }
        let mut larger = BytesMut::with_capacity(self.pending.len() + more + CONTROL);
        larger.extend_from_slice(&self.pending);
        self.pending = larger;
    }

    /// Where it is not, two writes would be two packets, or two records of TLS.
    fn is_vectored(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(Connection::is_write_vectored)
    }

    /// Writes until all is taken or the connection takes no more; gives how much it took.
    fn try_write(&mut self, head: &[u8], data: &[u8]) -> usize {
        let mut sent = 0;
        while sent < head.len() + data.len() {
            let rest = sent.saturating_sub(head.len());
            let slices = [
                IoSlice::new(head.get(sent..).unwrap_or_default()),
                IoSlice::new(&data[rest..]),
            ];
            match self.poll_write(&slices) {
                Some(written) => sent += written,
                None => break,
            }
        }
        sent
    }

    /// Sends what is pending as far as the connection takes it. Says whether all was sent.
    pub(super) fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            let written = self.poll_write(&[IoSlice::new(&pending)]);
            self.pending = pending;
            match written {
                Some(written) => self.pending.advance(written),
                None => return false,
            }
        }
        !self.unflushed || self.pass_on()
    }

    /// Lets the connection pass on what it keeps. Says whether it did.
    fn pass_on(&mut self) -> bool {
        let Some(connection) = self.connection.as_mut() else {
            return false;
        };
        let mut cx = Context::from_waker(&self.driver);
        match Pin::new(connection).poll_flush(&mut cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(error)) => return self.has_broken(error).is_some(),
        }
        true
    }

    /// `None`: the connection takes no more, or it is broken.
    pub(super) fn poll_write(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let connection = self.connection.as_mut()?;
        let mut cx = Context::from_waker(&self.driver);
        match Pin::new(connection).poll_write_vectored(&mut cx, slices) {
            Poll::Pending => None,
            Poll::Ready(Ok(0)) => self.has_broken(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(written)) => {
                self.unflushed = true;
                Some(written)
            }
            Poll::Ready(Err(error)) => self.has_broken(error),
        }
    }

    /// Everybody hears of it, the driver first.
    pub(super) fn has_broken(&mut self, error: io::Error) -> Option<usize> {
        self.broken.get_or_insert(error);
        self.driver.wake_by_ref();
        for outlet in self.outlets.values_mut() {
            wake(&mut outlet.writing);
        }
        None
    }
}
