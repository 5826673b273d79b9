//! Blobs on their way: what has come of a large one is on the disk, so that a later pull goes on at
//! the byte where this one was cut off, also in another daemon.
//!
//! `images/partial/HEX` holds the first bytes of the blob of that digest. Nothing is synced: what a
//! power cut tears costs a download from the front. Invariants: nobody takes it for the blob; who goes on from it hashes
//! it from its first byte, and throws it away where the digest is wrong. It has one writer, and
//! never more bytes than the blob.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tracing::warn;

use super::{Content, Error, io_error, list, remove};
use crate::id::Digest;

/// What all of them may take together while nobody adds to them.
const MOST: u64 = 4 << 30;

/// The directory of partial blobs.
#[derive(Debug)]
pub(super) struct Partials {
    pub directory: PathBuf,
    written: Written,
}

/// Those that somebody adds to.
type Written = Arc<Mutex<HashSet<Digest>>>;

/// The first bytes of a blob, and whoever holds this adds to them.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    blob: Digest,
    /// What the blob has.
    size: u64,
    /// Bytes that were there at first.
    begun: u64,
    length: AtomicU64,
    written: Written,
    /// It is in its place, and is this one's.
    there: AtomicBool,
}

/// The bytes that were there at first.
#[derive(Debug)]
pub struct Prefix {
    partial: Arc<Partial>,
    at: u64,
}

impl Partials {
    /// Opens or makes the directory.
    pub fn open(directory: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        Ok(Self {
            directory,
            written: Written::default(),
        })
    }

    /// Removes those that nobody adds to and that are not wanted, and the oldest of the others where
    /// they are too many bytes.
    pub fn sweep(&self, wanted: &HashSet<Digest>) -> Result<(), Error> {
        let mut kept = Vec::new();
        for name in list(&self.directory)? {
            let path = self.directory.join(&name);
            let digest = Digest::from_hex(&name).ok();
            // Nobody begins with one while it is looked at.
            let written = lock(&self.written);
            if digest.as_ref().is_some_and(|it| written.contains(it)) {
                continue;
            }
            match digest.is_some_and(|it| wanted.contains(&it)) {
                true => kept.extend(of_file(path)),
                false => remove(&path)?,
            }
        }
        kept.sort();
        self.limit(kept)
    }

    /// Removes the first of these, the oldest, until the rest is small enough.
    fn limit(&self, kept: Vec<(SystemTime, u64, PathBuf)>) -> Result<(), Error> {
        let mut total: u64 = kept.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in kept {
            if total <= MOST {
                break;
            }
            let written = lock(&self.written);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if Digest::from_hex(&name).is_ok_and(|it| written.contains(&it)) {
                continue;
            }
            remove(&path)?;
            total -= length;
        }
        Ok(())
    }
}

fn of_file(path: PathBuf) -> Option<(SystemTime, u64, PathBuf)> {
    let metadata = fs::metadata(&path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), path))
}

impl Content {
    /// What is there of a blob of this size, to go on from; `None`: somebody else adds to it now.
    ///
    /// # Errors
    /// Where it cannot be opened or made.
    pub fn partial(&self, blob: &Digest, size: u64) -> Result<Option<Arc<Partial>>, Error> {
        let path = self.partials.directory.join(blob.hex());
        if !lock(&self.partials.written).insert(blob.clone()) {
            return Ok(None);
        }
        let opened = open(&path, size).map_err(io_error("write", &path));
        let (file, begun) = opened.inspect_err(|_| {
            lock(&self.partials.written).remove(blob);
        })?;
        Ok(Some(Arc::new(Partial {
            file,
            path,
            blob: blob.clone(),
            size,
            begun,
            length: AtomicU64::new(begun),
            written: Arc::clone(&self.partials.written),
            there: AtomicBool::new(true),
        })))
    }
}

impl Content {
    /// Keeps a blob that is whole, and verified by whoever read it, in its place; false where it is not
    /// there any more.
    ///
    /// # Errors
    /// Where it cannot be put there.
    pub fn keep(&self, partial: &Partial) -> Result<bool, Error> {
        let whole = partial.length.load(Ordering::SeqCst) == partial.size;
        if !whole || !partial.leave() {
            return Ok(false);
        }
        let kept = self.put_file(&partial.path, partial.blob.hex());
        lock(&partial.written).remove(&partial.blob);
        kept.map(|()| true)
    }
}

/// The file, and how much of it is to be gone on from.
fn open(path: &Path, size: u64) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(path)?;
    match file.metadata()?.len() {
        // What is longer than the blob is not its beginning.
        length if length > size => file.set_len(0).map(|()| (file, 0)),
        length => Ok((file, length)),
    }
}

impl Partial {
    /// Bytes that were there at first.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// A reader of these.
    #[must_use]
    pub fn prefix(self: &Arc<Self>) -> Prefix {
        Prefix {
            partial: Arc::clone(self),
            at: 0,
        }
    }

    /// Forgets what was there at first.
    ///
    /// # Errors
    /// Where it cannot be cut off.
    pub fn begin_again(&self) -> Result<(), Error> {
        let cut = self.file.set_len(0);
        self.length.store(0, Ordering::SeqCst);
        cut.map_err(io_error("write", &self.path))
    }

    /// Adds the next bytes. Where that fails there is none any more: the blob comes all the same.
    pub fn append(&self, bytes: &[u8]) {
        if !self.there.load(Ordering::SeqCst) {
            return;
        }
        let at = self.length.load(Ordering::SeqCst);
        let room = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        match self.file.write_all_at(bytes, at) {
            Ok(()) => self.length.store(at + bytes.len() as u64, Ordering::SeqCst),
            Err(error) => {
                warn!(file = %self.path.display(), %error, "partial blob given up; a pull that is cut off begins it anew");
                self.discard();
            }
        }
    }

    /// Removes it: it is of no more use, or wrong.
    pub fn discard(&self) {
        if self.leave() {
            if let Err(error) = fs::remove_file(&self.path) {
                warn!(file = %self.path.display(), %error, "partial blob is left; the next reclaim removes it");
            }
            lock(&self.written).remove(&self.blob);
        }
    }

    /// Takes it as gone from its place; false where it is already.
    fn leave(&self) -> bool {
        self.there.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.leave() {
            lock(&self.written).remove(&self.blob);
        }
    }
}

impl Read for Prefix {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.partial.begun - self.at;
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.partial.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

fn lock(written: &Written) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn text(partial: &Arc<Partial>) -> String {
        let mut text = String::new();
        partial.prefix().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_came_before_is_there_for_the_next_one_alone() {
        let root = TempDir::new().unwrap();
        let store = Content::open(root.path()).unwrap();
        let blob = Digest::of(b"0123456789");
        let first = store.partial(&blob, 10).unwrap().unwrap();
        first.append(b"012");
        assert!(store.partial(&blob, 10).unwrap().is_none(), "has a writer");
        drop(first);
        let again = Content::open(root.path()).unwrap();
        let second = again.partial(&blob, 10).unwrap().unwrap();
        assert_eq!((second.begun(), text(&second).as_str()), (3, "012"));
        second.append(b"3456789and more");
        drop(second);
        let third = again.partial(&blob, 10).unwrap().unwrap();
        assert_eq!(text(&third), "0123456789");
        // What is wrong goes at once, while its reader may be there still.
        third.discard();
        let fourth = again.partial(&blob, 10).unwrap().unwrap();
        third.append(b"late");
        drop(third);
        assert_eq!(fourth.begun(), 0);
        assert!(again.partial(&blob, 10).unwrap().is_none());
        fourth.append(b"0123456789");
        drop(fourth);
        let other = again.partial(&blob, 9).unwrap().unwrap();
        assert_eq!(other.begun(), 0, "it is longer than the blob");
        assert_eq!(again.blobs().unwrap(), []);
        assert_eq!(again.usage().bytes, 0);
    }

    #[test]
    fn a_whole_one_is_kept_and_half_of_one_is_not() {
        let root = TempDir::new().unwrap();
        let store = Content::open(root.path()).unwrap();
        let blob = Digest::of(b"0123456789");
        let partial = store.partial(&blob, 10).unwrap().unwrap();
        partial.append(b"01234");
        assert!(!store.keep(&partial).unwrap());
        assert!(!store.has(&blob, 10) && store.open_blob(&blob).unwrap().is_none());
        partial.append(b"56789");
        assert!(store.keep(&partial).unwrap());
        assert!(!store.keep(&partial).unwrap(), "it is there");
        assert!(store.has(&blob, 10) && !store.has(&blob, 9));
        assert_eq!(store.get(&blob).unwrap(), b"0123456789");
        let (_, size) = store.open_blob(&blob).unwrap().unwrap();
        assert_eq!((size, store.usage().inodes), (10, 1));
        assert!(
            store.partial(&blob, 10).unwrap().is_some(),
            "nobody writes it"
        );
    }

    #[test]
    fn what_nobody_wants_goes_but_for_what_is_being_written() {
        let root = TempDir::new().unwrap();
        let store = Content::open(root.path()).unwrap();
        let [live, wanted, not] = [b"live", b"want", b"gone"].map(|text| Digest::of(text));
        let live = store.partial(&live, 4).unwrap().unwrap();
        for blob in [&wanted, &not] {
            drop(store.partial(blob, 4).unwrap());
        }
        fs::write(store.partials.directory.join("no-digest"), "x").unwrap();
        store.partials.sweep(&[wanted.clone()].into()).unwrap();
        let left = list(&store.partials.directory).unwrap();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&wanted.hex().to_owned()));
        drop(live);
        // The oldest go where they are too many.
        let file = store.partials.directory.join(wanted.hex());
        let file = File::options().write(true).open(file).unwrap();
        file.set_len(MOST + 1).unwrap();
        let everything = list(&store.partials.directory).unwrap();
        let everything = everything
            .iter()
            .map(|name| Digest::from_hex(name).unwrap());
        store.partials.sweep(&everything.collect()).unwrap();
        let left = list(&store.partials.directory).unwrap();
        assert!(!left.contains(&wanted.hex().to_owned()), "{left:?}");
    }
}
