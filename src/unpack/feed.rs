//! The bounded pipe from the download (async) to the thread that unpacks (blocking).
//!
//! The bound is what keeps memory small when the disk is slower than the network. A feeder that is
//! dropped before the end makes the reader fail: a broken download never looks like a short layer.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use tokio::sync::{Semaphore, mpsc};

/// Bytes that may wait; a chunk of the HTTP client is up to 400 KiB. One larger than this goes alone.
const ROOM: usize = 1 << 20;

enum Piece {
    Data(Bytes),
    End,
    Failed(io::Error),
}

/// The download's end of the pipe.
pub struct Feeder {
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
}

/// The unpacking thread's end of the pipe. It blocks: never read it on an async thread.
pub struct FeedReader {
    pieces: mpsc::UnboundedReceiver<Piece>,
    room: Arc<Semaphore>,
    current: Bytes,
    ended: bool,
    seen: Option<Seen>,
}

/// Who is shown each chunk as it comes out of the pipe, on the thread that reads.
type Seen = Box<dyn FnMut(&[u8]) + Send>;

/// A new pipe.
pub fn feed() -> (Feeder, FeedReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(ROOM));
    let reader = FeedReader {
        pieces: receiver,
        room: Arc::clone(&room),
        current: Bytes::new(),
        ended: false,
        seen: None,
    };
    let feeder = Feeder {
        pieces: sender,
        room,
    };
    (feeder, reader)
}

impl Feeder {
    /// Hands over a chunk, waiting for room. False once the reader is gone: it failed, and its
    /// result says why.
    pub async fn send(&self, data: Bytes) -> bool {
        let Ok(room) = self.room.acquire_many(room_of(&data)).await else {
            return false;
        };
        // The reader gives it back.
        room.forget();
        self.pieces.send(Piece::Data(data)).is_ok()
    }

    /// Says that all has been sent.
    pub fn end(self) {
        // A reader that is gone needs no end.
        let _ = self.pieces.send(Piece::End);
    }

    /// Says that there will be no more, and why.
    pub fn fail(self, error: io::Error) {
        let _ = self.pieces.send(Piece::Failed(error));
    }
}

/// What a chunk takes of the room.
fn room_of(data: &Bytes) -> u32 {
    const { assert!(ROOM <= u32::MAX as usize) };
    // The cast cannot lose, as was just seen.
    data.len().min(ROOM) as u32
}

impl FeedReader {
    /// The same with somebody who is shown each chunk before it is read.
    #[must_use]
    pub fn seen_by(mut self, seen: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.seen = Some(Box::new(seen));
        self
    }
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl Read for FeedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => {
                    self.room.add_permits(room_of(&data) as usize);
                    if let Some(seen) = &mut self.seen {
                        seen(&data);
                    }
                    self.current = data;
                }
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(error)) => return Err(error),
                None => return Err(io::Error::other("the download was given up")),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn bytes_arrive_in_order_and_end() {
        let (feeder, mut reader) = feed();
        let (show, shown) = std::sync::mpsc::channel();
        reader = reader.seen_by(move |chunk| show.send(chunk.len()).unwrap());
        let read = tokio::task::spawn_blocking(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).map(|_| all)
        });
        assert!(feeder.send(Bytes::from_static(b"one ")).await);
        assert!(feeder.send(Bytes::from_static(b"two")).await);
        feeder.end();
        assert_eq!(read.await.unwrap().unwrap(), "one two");
        assert_eq!(shown.iter().collect::<Vec<_>>(), [4, 3]);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_by_its_bytes() {
        let (feeder, mut reader) = feed();
        let chunk = || Bytes::from(vec![1; 300_000]);
        for _ in 0..3 {
            assert!(feeder.send(chunk()).now_or_never().unwrap());
        }
        let mut fourth = std::pin::pin!(feeder.send(chunk()));
        assert!(fourth.as_mut().now_or_never().is_none(), "there is no room");
        let reader = tokio::task::spawn_blocking(move || {
            reader.read_exact(&mut [0; 1]).unwrap();
            reader
        });
        let reader = reader.await.unwrap();
        assert!(fourth.await);
        // One that is larger than all there is waits for all of it, and for a reader that is gone no
        // longer.
        let large = Bytes::from(vec![1; 3 * ROOM]);
        let mut large = std::pin::pin!(feeder.send(large));
        assert!(large.as_mut().now_or_never().is_none());
        drop(reader);
        assert!(!large.await);
    }

    #[tokio::test]
    async fn a_dropped_feeder_is_an_error_not_an_end() {
        let (feeder, mut reader) = feed();
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        assert!(feeder.send(Bytes::from_static(b"half")).await);
        drop(feeder);
        assert!(read.await.unwrap().is_err());
    }
}
