//! The image store's small things: manifests and configs as blobs by digest, and one record per
//! image.
//!
//! ```text
//! images/blobs/HEX          a manifest or config
//! images/records/HEX.json   an ImageRecord, by the id's digits
//! images/partial/HEX        the first bytes of a blob on its way (partial.rs)
//! images/pulls/HEX          what a pull without an end needs (unfinished.rs)
//! ```
//! Every file is written beside its place and renamed into it. Nothing is synced here: blobs are
//! verified against their digest whenever they are read, so what a power cut tore is found and
//! fetched again. Layers are not here but in `snapshot`: unpacked, once.

mod partial;
mod unfinished;

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use self::partial::Partials;
pub use self::{
    partial::{Partial, Prefix},
    unfinished::{KEPT, Needs},
};
use crate::{
    error::Kind,
    id::{Digest, ImageId},
    model::image::ImageRecord,
};

/// Why a blob or a record could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// `read`, `write`, `remove`, `list`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// The blob is not there.
    #[error("blob {0} is not in the store")]
    Missing(Digest),
    /// The blob's bytes are not those of its name.
    #[error("blob {expected} is damaged: its content is {actual}")]
    Damaged {
        /// The name.
        expected: Digest,
        /// The digest of the content.
        actual: Digest,
    },
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) => Kind::NotFound,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Kind::ResourceExhausted
            }
            Self::Io { .. } | Self::Damaged { .. } => Kind::Internal,
        }
    }
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), "use the image store").caused_by(error)
    }
}

/// What files take on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes, in whole blocks.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Taken {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }

    fn subtract(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.inodes = self.inodes.saturating_sub(other.inodes);
    }
}

/// Blobs and records below one directory.
#[derive(Debug)]
pub struct Content {
    blobs: PathBuf,
    records: PathBuf,
    pulls: PathBuf,
    partials: Partials,
    next: AtomicU64,
    /// What all files take. Held while one comes or goes, so that none is counted twice.
    usage: Mutex<Taken>,
}

/// The unit of `st_blocks`, whatever the file system's own (`stat(2)`).
const STAT_BLOCK: u64 = 512;
/// Blobs of any size are read in pieces of this size.
const PIECE: usize = 256 * 1024;
/// The prefix of files that are being written.
const UNFINISHED: &str = ".tmp-";

impl Content {
    /// Opens or makes the store at `directory` and removes what a kill left half written.
    ///
    /// # Errors
    /// Where the directories cannot be made or listed.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let store = Self {
            blobs: directory.join("blobs"),
            records: directory.join("records"),
            pulls: directory.join("pulls"),
            partials: Partials::open(directory.join("partial"))?,
            next: AtomicU64::new(0),
            usage: Mutex::default(),
        };
        sweep(&store.pulls)?;
        for path in [&store.blobs, &store.records] {
            for name in sweep(path)? {
                store.usage_mut().add(taken(&path.join(name)));
            }
        }
        Ok(store)
    }

    /// Keeps a blob under its digest, which it must have.
    ///
    /// # Errors
    /// `Damaged` where the bytes have another digest.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        verify(digest, bytes)?;
        self.write(&self.blobs, digest.hex(), bytes)
    }

    /// A blob's bytes, verified.
    ///
    /// # Errors
    /// `Missing`, `Damaged`.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.blobs.join(digest.hex());
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing(digest.clone()));
            }
            read => read.map_err(io_error("read", &path))?,
        };
        verify(digest, &bytes)?;
        Ok(bytes)
    }

    /// The bytes that a blob has; 0 where it is not there.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> u64 {
        fs::metadata(self.blobs.join(digest.hex())).map_or(0, |metadata| metadata.len())
    }

    /// Whether a blob of this size is there. Its content is not looked at.
    #[must_use]
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        let metadata = fs::metadata(self.blobs.join(digest.hex()));
        metadata.is_ok_and(|metadata| metadata.len() == size)
    }

    /// A blob's file and its size, to be verified by who reads it; `None` where it is not there.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
        let path = self.blobs.join(digest.hex());
        let opened = File::open(&path).and_then(|file| {
            let size = file.metadata()?.len();
            Ok((file, size))
        });
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(io_error("open", &path)),
        }
    }

    /// Reads a blob of any size from the disk and holds it against its digest, or until it is to `stop`;
    /// gives the bytes that were read, `None` where it is not there.
    ///
    /// # Errors
    /// `Damaged`; where it cannot be read.
    pub fn verify_blob(
        &self,
        digest: &Digest,
        stop: impl Fn() -> bool,
    ) -> Result<Option<u64>, Error> {
        let Some((mut file, _)) = self.open_blob(digest)? else {
            return Ok(None);
        };
        // Best effort: a file system without it is read from memory.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        let (mut hash, mut read, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
        while !stop() {
            let path = || self.blobs.join(digest.hex());
            let count = file
                .read(&mut piece)
                .map_err(|e| io_error("read", &path())(e))?;
            hash.update(&piece[..count]);
            read += count as u64;
            if count == 0 {
                return same(digest, Digest::finish(hash)).map(|()| Some(read));
            }
        }
        Ok(Some(read))
    }

    /// Forgets a blob; one that is not there is forgotten.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), Error> {
        self.take_away(&self.blobs.join(digest.hex()))
    }

    /// The digests of all blobs.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn blobs(&self) -> Result<Vec<Digest>, Error> {
        Ok(list(&self.blobs)?
            .iter()
            .filter_map(|name| Digest::from_hex(name).ok())
            .collect())
    }

    /// Keeps an image's record in place of the one before.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&self, record: &ImageRecord) -> Result<(), Error> {
        let text = serde_json::to_vec(record).expect("a record of strings is valid JSON");
        self.write(&self.records, &record_name(&record.id), &text)
    }

    /// Forgets an image's record; one that is not there is forgotten.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn forget(&self, id: &ImageId) -> Result<(), Error> {
        self.take_away(&self.records.join(record_name(id)))
    }

    /// All records. One that cannot be read is said, removed and passed over: the image is pulled
    /// again.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn records(&self) -> Result<Vec<ImageRecord>, Error> {
        let mut records = Vec::new();
        for name in list(&self.records)? {
            let path = self.records.join(name);
            let bytes = fs::read(&path).map_err(io_error("read", &path))?;
            match serde_json::from_slice::<ImageRecord>(&bytes) {
                Ok(record) => records.push(record),
                Err(error) => {
                    warn!(file = %path.display(), %error, "image record dropped");
                    self.take_away(&path)?;
                }
            }
        }
        Ok(records)
    }

    /// What all files take together.
    #[must_use]
    pub fn usage(&self) -> Taken {
        *self.usage_mut()
    }

    fn usage_mut(&self) -> MutexGuard<'_, Taken> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_away(&self, path: &Path) -> Result<(), Error> {
        let mut usage = self.usage_mut();
        let before = taken(path);
        remove(path)?;
        usage.subtract(before);
        Ok(())
    }

    fn write(&self, directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let unfinished = directory.join(format!("{UNFINISHED}{number}-{name}"));
        let failed = io_error("write", &unfinished);
        let path = directory.join(name);
        let put = || {
            let mut usage = self.usage_mut();
            let before = taken(&path);
            fs::rename(&unfinished, &path)?;
            usage.subtract(before);
            usage.add(taken(&path));
            Ok(())
        };
        let written = fs::write(&unfinished, bytes).and_then(|()| put());
        written
            .inspect_err(|_| drop(fs::remove_file(&unfinished)))
            .map_err(failed)
    }

    /// Moves a file into its place among the blobs.
    fn put_file(&self, from: &Path, name: &str) -> Result<(), Error> {
        let path = self.blobs.join(name);
        let mut usage = self.usage_mut();
        let before = taken(&path);
        fs::rename(from, &path).map_err(io_error("write", &path))?;
        usage.subtract(before);
        usage.add(taken(&path));
        Ok(())
    }
}

/// What a file takes on the disk; nothing where it is not there.
fn taken(path: &Path) -> Taken {
    fs::metadata(path).map_or_else(
        |_| Taken::default(),
        |metadata| Taken {
            bytes: metadata.blocks() * STAT_BLOCK,
            inodes: 1,
        },
    )
}

fn record_name(id: &ImageId) -> String {
    format!("{}.json", id.0.hex())
}

fn verify(expected: &Digest, bytes: &[u8]) -> Result<(), Error> {
    same(expected, Digest::of(bytes))
}

fn same(expected: &Digest, actual: Digest) -> Result<(), Error> {
    if actual == *expected {
        Ok(())
    } else {
        Err(Error::Damaged {
            expected: expected.clone(),
            actual,
        })
    }
}

/// Makes the directory where it is absent, removes what a kill left half written in it, and tells the
/// rest.
fn sweep(directory: &Path) -> Result<Vec<String>, Error> {
    fs::create_dir_all(directory).map_err(io_error("make", directory))?;
    let names = list(directory)?.into_iter();
    let (half, rest): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with(UNFINISHED));
    half.iter()
        .try_for_each(|name| remove(&directory.join(name)))?;
    Ok(rest)
}

fn list(directory: &Path) -> Result<Vec<String>, Error> {
    let failed = io_error("list", directory);
    let names = fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    });
    names.map_err(failed)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn blobs_are_verified_both_ways() {
        let root = TempDir::new().unwrap();
        let store = Content::open(root.path()).unwrap();
        let digest = Digest::of(b"config");
        assert!(matches!(
            store.put(&digest, b"other"),
            Err(Error::Damaged { .. })
        ));
        assert!(matches!(store.get(&digest), Err(Error::Missing(_))));
        store.put(&digest, b"config").unwrap();
        assert_eq!(store.get(&digest).unwrap(), b"config");
        fs::write(root.path().join("blobs").join(digest.hex()), b"").unwrap();
        assert!(matches!(store.get(&digest), Err(Error::Damaged { .. })));
        store.remove(&digest).unwrap();
        store.remove(&digest).unwrap();
        assert_eq!(store.blobs().unwrap(), []);
    }

    #[test]
    fn records_come_back_and_torn_ones_go() {
        let root = TempDir::new().unwrap();
        let record = ImageRecord {
            id: ImageId(Digest::of(b"config")),
            tags: ["docker.io/library/a:1".parse().unwrap()].into(),
            digests: std::collections::BTreeSet::new(),
            manifest: Digest::of(b"manifest"),
            layers: vec![],
            targets: vec![],
            tagged: std::collections::BTreeMap::new(),
            removed: false,
        };
        Content::open(root.path()).unwrap().save(&record).unwrap();
        fs::write(root.path().join("records/torn.json"), b"{").unwrap();
        for half_written in ["records/.tmp-7-x", "blobs/.tmp-8-x", "pulls/.tmp-9-x"] {
            fs::write(root.path().join(half_written), b"{").unwrap();
        }
        let store = Content::open(root.path()).unwrap();
        assert_eq!(store.records().unwrap(), std::slice::from_ref(&record));
        let left = |name: &str| fs::read_dir(root.path().join(name)).unwrap().count();
        assert_eq!(["records", "blobs", "pulls"].map(left), [1, 0, 0]);
        store.forget(&record.id).unwrap();
        assert_eq!(store.records().unwrap(), []);
    }
}
