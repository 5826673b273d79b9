//! The bounded pipe from the download (async) to the thread that unpacks (blocking).
//!
//! The bound is what keeps memory small when the disk is slower than the network. A feeder that is
//! dropped before the end makes the reader fail: a broken download never looks like a short layer.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Chunks that may wait; a chunk of the HTTP client is up to 400 KiB, so a layer holds 3 MiB.
const WAITING: usize = 8;

enum Piece {
    Data(Bytes),
    End,
    Failed(io::Error),
}

/// The download's end of the pipe.
pub struct Feeder(mpsc::Sender<Piece>);

/// The unpacking thread's end of the pipe. It blocks: never read it on an async thread.
pub struct FeedReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

/// A new pipe.
pub fn feed() -> (Feeder, FeedReader) {
    let (sender, pieces) = mpsc::channel(WAITING);
    let reader = FeedReader {
        pieces,
        current: Bytes::new(),
        ended: false,
    };
    (Feeder(sender), reader)
}

impl Feeder {
    /// Hands over a chunk, waiting for room. False once the reader is gone: it failed, and its
    /// result says why.
    pub async fn send(&self, data: Bytes) -> bool {
        self.0.send(Piece::Data(data)).await.is_ok()
    }

    /// Says that all has been sent.
    pub async fn end(self) {
        // A reader that is gone needs no end.
        let _ = self.0.send(Piece::End).await;
    }

    /// Says that there will be no more, and why.
    pub async fn fail(self, error: io::Error) {
        let _ = self.0.send(Piece::Failed(error)).await;
    }
}

impl Read for FeedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => self.current = data,
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

    #[tokio::test]
    async fn bytes_arrive_in_order_and_end() {
        let (feeder, mut reader) = feed();
        let read = tokio::task::spawn_blocking(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).map(|_| all)
        });
        assert!(feeder.send(Bytes::from_static(b"one ")).await);
        assert!(feeder.send(Bytes::from_static(b"two")).await);
        feeder.end().await;
        assert_eq!(read.await.unwrap().unwrap(), "one two");
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
