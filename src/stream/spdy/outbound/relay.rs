//! A frame whose bytes are read when it is its stream's turn: straight into what is pending, so that a
//! session has one place for them, however many streams wait.

use std::io;
use std::task::{Poll, Waker};

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};

use super::super::codec::data_header;
use super::{CONGESTED, FRAME, Outbound, again};

/// The head of a data frame, in bytes.
const HEAD: usize = 8;

/// Reads once, without waiting, into what it is given; gives how much that was.
pub type Fill<'a> = dyn FnMut(&mut Limit<&mut BytesMut>) -> io::Result<usize> + Send + 'a;

impl Outbound {
    /// Writes one frame of what `fill` gives, once windows are open, nothing is pending and nobody
    /// is before the stream.
    pub fn poll_relay(
        &mut self,
        stream: u32,
        fill: &mut Fill<'_>,
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let room = self.room(stream)?;
        if room == 0 {
            return self.wait_for_window(stream, waker);
        }
        if !self.may_write(stream) || !self.flush() {
            return self.wait_in_line(stream, waker);
        }
        let filled = self.fill(stream, room, fill);
        self.next_turn();
        match &self.broken {
            Some(error) => Poll::Ready(Err(again(error))),
            None => Poll::Ready(filled),
        }
    }

    /// Nothing is pending.
    fn fill(&mut self, stream: u32, room: usize, fill: &mut Fill<'_>) -> io::Result<usize> {
        self.pending.clear();
        if !self.pending.try_reclaim(HEAD + FRAME) {
            self.pending = BytesMut::with_capacity(CONGESTED);
        }
        self.pending.put_bytes(0, HEAD);
        let filled = fill(&mut (&mut self.pending).limit(room));
        let length = self.pending.len() - HEAD;
        self.charge(stream, length);
        if length == 0 {
            // Nothing will come for a while.
            self.pending = BytesMut::new();
            return filled;
        }
        self.pending[..HEAD].copy_from_slice(&data_header(stream, length, false));
        self.flush();
        Ok(length)
    }
}
