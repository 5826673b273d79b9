//! fs-verity: each file of a layer is sealed, so that nobody writes it, root included, and the kernel holds
//! every page that a container reads against what was unpacked.
//!
//! ```text
//! layers/HEX/verity   the kernel's digest (32 bytes) of each file of the inventory, in its order
//! record.json         its SHA-256
//! ```
//! It costs reading each file once and about one part in 128 of its size, so it is done where the node's
//! owner asks for it, in the background, once layers are durable.
//!
//! Invariant: a record that names the list is of a layer all of whose files are sealed. What a kill leaves
//! half sealed is gone on with.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use corten_shim::sys::verity::{self, DIGEST};
use rustix::{fd::OwnedFd, fs::fstat, io::Errno};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use super::{
    Layers, STAT_BLOCK,
    error::{Error, io_error},
    home::Home,
    inventory::{self, Entries, INVENTORY, What},
    layers::TREE,
    record::{LayerRecord, UNFINISHED},
    walk::{Place, walk},
};
use crate::{id::Digest, unpack::Usage};

/// The list's file in the layer's directory.
pub(super) const SEALS: &str = "verity";
/// The kernel wants no larger ones than the file system's blocks, nor than pages.
const LARGEST_BLOCK: u32 = 4096;

/// What the kernel tells of a sealed file.
pub(super) type Seal = [u8; DIGEST];
/// How it is asked.
pub(super) type Measure = fn(&OwnedFd) -> Result<Seal, Errno>;

/// Whether layers are sealed.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    wanted: AtomicBool,
    /// Held while layers are sealed: nobody does it twice.
    one: Mutex<()>,
}

/// What came of sealing a layer.
pub(super) struct Sealed {
    /// The digest of the list.
    pub list: Digest,
    /// What it takes beside what the layer took before.
    pub usage: Usage,
}

impl Layers {
    /// Has layers sealed from now on, if the file system can.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn begin_sealing(&self) -> Result<(), Error> {
        let tried = try_in(self.directory());
        tried.map_err(io_error("use fs-verity in", self.directory()))?;
        self.sealing.wanted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Seals the durable layers that are not yet. Reads all of them, so it takes its time.
    ///
    /// # Errors
    /// Where a record cannot be written.
    pub fn seal(&self) -> Result<(), Error> {
        if !self.sealing.wanted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let one = &self.sealing.one;
        let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pending = self.all();
        pending.retain(|it| it.durable && it.verity.is_none() && !it.distrusted);
        // Lower ones first: what an upper one has from them by a hard link is theirs.
        let depth = |it: &LayerRecord| self.stack(Some(&it.chain)).map_or(0, |stack| stack.len());
        pending.sort_by_cached_key(depth);
        for record in pending {
            if let Some(home) = Home::open(self.path(&record.chain))? {
                self.seal_one(&home, &record)?;
            }
        }
        Ok(())
    }

    fn seal_one(&self, home: &Home, record: &LayerRecord) -> Result<(), Error> {
        let Some(inventory) = &record.inventory else {
            return Ok(());
        };
        match seal(home, inventory) {
            Ok(sealed) => {
                info!(layer = %record.chain, "layer sealed");
                self.note_seals(home, &sealed)
            }
            Err(error) if home.is_at_its_path() => {
                warn!(layer = %record.chain, %error, "layer not sealed with fs-verity; it is tried again after the next pull");
                Ok(())
            }
            // It was removed or replaced meanwhile.
            Err(_) => Ok(()),
        }
    }

    fn note_seals(&self, home: &Home, sealed: &Sealed) -> Result<(), Error> {
        let _one = self.rewriting();
        let record = home.note_seals(sealed)?;
        self.write_known(|known| {
            let is_known = record
                .as_ref()
                .is_some_and(|it| known.get(&it.chain).is_some());
            if let Some(record) = record.filter(|_| is_known && home.is_at_its_path()) {
                known.insert(record);
            }
        });
        Ok(())
    }
}

/// Seals a file of its own.
fn try_in(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!("{UNFINISHED}{SEALS}"));
    fs::write(&path, SEALS)?;
    let file = OwnedFd::from(File::open(&path)?);
    let tried = enable(&file).and_then(|()| verity::measure(&file));
    fs::remove_file(&path)?;
    Ok(tried.map(drop)?)
}

fn enable(file: &OwnedFd) -> Result<(), Errno> {
    let block = rustix::fs::fstatfs(file)?.f_bsize;
    let block = u32::try_from(block).unwrap_or(LARGEST_BLOCK);
    verity::enable(file, block.min(LARGEST_BLOCK))
}

/// Seals every file of a layer, whose tree has to be what its inventory says, and writes the list.
fn seal(home: &Home, inventory: &Digest) -> io::Result<Sealed> {
    let mut entries = Entries::open(&home.path().join(INVENTORY), inventory)?;
    let (mut list, mut usage) = (Vec::new(), Usage::default());
    walk::<io::Error>(&home.path().join(TREE), |place| {
        let entry = entries.next()?.filter(|entry| entry.path == place.path);
        let differs = || io::Error::other("its files are not those of its inventory");
        if let What::File(..) = entry.ok_or_else(differs)?.what {
            let (seal, bytes) = seal_file(place)?;
            list.extend_from_slice(&seal);
            usage.bytes += bytes;
        }
        Ok(())
    })?;
    let file = home.write(SEALS, &list)?;
    usage.bytes += file.metadata()?.blocks() * STAT_BLOCK;
    usage.inodes += 1;
    let list = Digest::of(&list);
    Ok(Sealed { list, usage })
}

/// Gives what the kernel tells of it, and by how many bytes it has grown.
fn seal_file(place: &Place<'_>) -> io::Result<(Seal, u64)> {
    let file = inventory::open(place)?;
    match enable(&file) {
        // By another name, or before a restart.
        Err(Errno::EXIST) => return Ok((verity::measure(&file)?, 0)),
        sealed => sealed?,
    }
    let blocks = fstat(&file)?.st_blocks - place.stat.st_blocks;
    let bytes = u64::try_from(blocks).unwrap_or(0) * STAT_BLOCK;
    Ok((verity::measure(&file)?, bytes))
}

/// The seals of a layer, one after the other.
pub(super) struct Seals {
    list: BufReader<File>,
    measure: Measure,
}

impl Seals {
    /// Opens the list, which must have this digest.
    pub fn open(path: &Path, digest: &Digest, measure: Measure) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 16];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                read => hash.update(&piece[..read]),
            }
        }
        let actual = Digest::finish(hash);
        if actual != *digest {
            return Err(io::Error::other(format!("it is {actual}, not {digest}")));
        }
        file.rewind()?;
        let list = BufReader::new(file);
        Ok(Self { list, measure })
    }

    /// That of the next file.
    pub fn next(&mut self) -> io::Result<Seal> {
        let mut seal = Seal::default();
        self.list.read_exact(&mut seal)?;
        Ok(seal)
    }

    /// What is wrong with a file's seal; `None`: nothing.
    pub fn differs(&self, file: &OwnedFd, seal: &Seal) -> io::Result<Option<String>> {
        match (self.measure)(file) {
            Ok(actual) if actual == *seal => Ok(None),
            Ok(_) => Ok(Some("its fs-verity digest is another one".to_owned())),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOTTY) => {
                Ok(Some("it is not sealed by fs-verity any more".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Asks the kernel.
pub(super) fn measure(file: &OwnedFd) -> Result<Seal, Errno> {
    verity::measure(file)
}
