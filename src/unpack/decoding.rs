//! Decompression on a thread of its own: the next buffer is filled while the last one is hashed and
//! written.
//!
//! ```text
//! decoding thread   read ─▶ hash (blob) ─▶ decompress ──full──▶ hash (diff id) ─▶ tar ─▶ files
//!                                             ▲────────empty───────┘
//! ```
//! Invariants: [`WAITING`] buffers are all there are beside the one that is being applied; the thread
//! ends when its reader does, or when nobody takes what it decodes.

use std::{
    io::Read,
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
};

use super::{
    decompress::Decoder,
    error::Error,
    stream::{Buffer, Source, buffer},
};
use crate::id::Digest;

/// Buffers that are being filled or wait.
const WAITING: usize = 3;
/// What decoders keep on their stack is far less.
const STACK: usize = 1 << 20;

enum Step {
    /// A buffer with so many bytes.
    Bytes(Buffer, usize),
    /// The end, with the blob's digest and length.
    End(Digest, u64),
    Failed(Error),
}

/// The applying thread's side.
pub(super) struct Decoding {
    steps: Receiver<Step>,
    empty: Sender<Buffer>,
    end: Option<(Digest, u64)>,
}

impl Decoding {
    /// Starts to decode.
    ///
    /// # Errors
    /// Where there can be no more threads.
    pub fn start(reader: impl Read + Send + 'static) -> Result<Self, Error> {
        let (full, steps) = sync_channel(WAITING);
        let (empty, empties) = channel();
        for _ in 0..WAITING {
            // The other end is right here.
            let _ = empty.send(buffer());
        }
        let thread = thread::Builder::new()
            .name("decode".into())
            .stack_size(STACK);
        let decoding = move || run(reader, &full, &empties);
        thread.spawn(decoding).map_err(|source| Error::Apply {
            operation: "start a thread for",
            path: PathBuf::new(),
            source,
        })?;
        Ok(Self {
            steps,
            empty,
            end: None,
        })
    }
}

fn run(reader: impl Read, full: &SyncSender<Step>, empties: &Receiver<Buffer>) {
    let last = match decode(reader, full, empties) {
        Ok(Some((digest, size))) => Step::End(digest, size),
        Ok(None) => return,
        Err(error) => Step::Failed(error),
    };
    // Who does not listen any more has an error of its own.
    let _ = full.send(last);
}

/// `None`: nobody listens.
fn decode(
    reader: impl Read,
    full: &SyncSender<Step>,
    empties: &Receiver<Buffer>,
) -> Result<Option<(Digest, u64)>, Error> {
    let mut decoder = Decoder::detect(reader)?;
    while let Ok(mut buffer) = empties.recv() {
        let (read, end) = fill(&mut decoder, &mut buffer);
        if read > 0 && full.send(Step::Bytes(buffer, read)).is_err() {
            break;
        }
        match end {
            End::Not => {}
            End::Reached => return decoder.finish().map(Some),
            End::Failed(error) => return Err(error),
        }
    }
    Ok(None)
}

enum End {
    Not,
    Reached,
    Failed(Error),
}

/// Fills the whole buffer if it can: what is handed over costs a switch of threads.
fn fill(decoder: &mut Decoder<impl Read>, buffer: &mut [u8]) -> (usize, End) {
    let mut filled = 0;
    while filled < buffer.len() {
        match decoder.some(&mut buffer[filled..]) {
            Ok(0) => return (filled, End::Reached),
            Ok(read) => filled += read,
            Err(error) => return (filled, End::Failed(error)),
        }
    }
    (filled, End::Not)
}

impl Source for Decoding {
    fn fill(&mut self, buffer: &mut Buffer) -> Result<usize, Error> {
        if self.end.is_some() {
            return Ok(0);
        }
        match self.steps.recv() {
            Ok(Step::Bytes(full, read)) => {
                // The thread may be through with its reader.
                let _ = self.empty.send(std::mem::replace(buffer, full));
                Ok(read)
            }
            Ok(Step::End(digest, size)) => {
                self.end = Some((digest, size));
                Ok(0)
            }
            Ok(Step::Failed(error)) => Err(error),
            Err(_) => Err(Error::Interrupted),
        }
    }

    fn finish(self) -> Result<(Digest, u64), Error> {
        self.end.ok_or(Error::Interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::stream::Stream;
    use std::io;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn read(blob: Vec<u8>) -> Result<(Vec<u8>, Digest, u64), Error> {
        let mut stream = Stream::new(Decoding::start(io::Cursor::new(blob))?, u64::MAX);
        let mut all = Vec::new();
        while let Some(block) = stream.block()? {
            all.extend_from_slice(&block);
        }
        let (_, _, decoding) = stream.finish()?;
        let (digest, size) = decoding.finish()?;
        Ok((all, digest, size))
    }

    #[test]
    fn what_another_thread_decodes_is_all_of_it_in_order() {
        let tar: Vec<u8> = (0..(3u32 << 20)).map(|at| (at / 7) as u8).collect();
        let blob = gzip(&tar);
        let (all, digest, size) = read(blob.clone()).unwrap();
        assert!(all == tar);
        assert_eq!((digest, size), (Digest::of(&blob), blob.len() as u64));
    }

    #[test]
    fn what_the_decoder_says_arrives_after_the_bytes_before_it() {
        let mut blob = gzip(&[7; 3 << 20]);
        blob.truncate(blob.len() - 20);
        assert!(matches!(read(blob), Err(Error::Decompress { .. })));
    }

    /// Tells when it is dropped.
    struct Endless(std::sync::mpsc::Sender<()>);

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            into.fill(7);
            Ok(into.len())
        }
    }

    impl Drop for Endless {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn a_thread_that_nobody_listens_to_ends() {
        let (dropped, end) = channel();
        let mut decoding = Decoding::start(Endless(dropped)).unwrap();
        assert!(decoding.fill(&mut buffer()).unwrap() > 0);
        assert!(end.try_recv().is_err());
        drop(decoding);
        end.recv().unwrap();
    }
}
