//! Unpacked layers by chain id: the one copy that the node keeps of an image's content.
//!
//! ```text
//! layers/HEX/fs/            the tree, never written again
//! layers/HEX/record.json    what it is; a layer without it does not exist
//! layers/HEX/inventory      what each file of it is (inventory.rs)
//! layers/HEX/verity         what the kernel tells of each file, where they are sealed (verity.rs)
//! layers/.tmp-N/            being unpacked; thrown away at start
//! layers/.replaced-HEX-N/   was broken; containers may still run on it (replace.rs)
//! layers/.trash/            no longer needed
//! layers/.empty/            the bottom of an image volume without layers
//! layers/.points/           the bottom of every container's root
//! ```
//! A layer is committed by one rename. It is made durable later and in bulk: until its record says
//! so, a new boot throws it away, since a power cut may have left its files empty.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{info, warn};

use super::{
    borrowed::{self, Borrowed, Known as Lenders},
    complete::complete,
    error::{Error, io_error},
    home::Home,
    inventory::{self, INVENTORY},
    lower::Lower,
    points,
    record::{Known, LayerRecord, UNFINISHED, read_record, write_record},
    replace::{REPLACED, Replacing},
    trash::Trash,
    verify::{Recorded, Stop, Verified, verify},
    verity::{self, SEALS, Sealing, Seals},
};
use crate::{
    id::{ChainId, Digest},
    unpack::{Unpacked, Usage},
};

/// The tree's name in the layer's directory.
pub(super) const TREE: &str = "fs";
/// The name of the directory without content.
const EMPTY: &str = ".empty";
/// The name of the layer of mount points.
const POINTS: &str = ".points";

/// The layers of a node.
#[derive(Debug)]
pub struct Layers {
    directory: PathBuf,
    boot_id: String,
    next: AtomicU64,
    trash: Trash,
    points: Option<PathBuf>,
    known: RwLock<Known>,
    replacing: Replacing,
    pub(super) sealing: Sealing,
    /// Held while a record is written anew: each change is of the record as it is.
    rewriting: Mutex<()>,
    /// Layers that are known no more while their directories are still there: a commit of the
    /// same layer waits for `left`.
    leaving: Mutex<HashSet<ChainId>>,
    left: Condvar,
}

/// Layers that are forgotten and not yet thrown away.
#[derive(Debug)]
#[must_use = "their directories are still there"]
pub struct Leaving {
    layers: Arc<Layers>,
    chains: Vec<ChainId>,
}

impl Leaving {
    /// Throws them away; goes on where one cannot be.
    ///
    /// # Errors
    /// The first that cannot be renamed.
    pub fn discard(self) -> Result<(), Error> {
        let throw = |chain: &ChainId| {
            info!(layer = %chain, "layer removed");
            self.layers.trash.throw(&self.layers.path(chain))
        };
        let thrown: Vec<_> = self.chains.iter().map(throw).collect();
        thrown.into_iter().collect()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let layers = &self.layers;
        let mut leaving = layers
            .leaving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|chain| !self.chains.contains(chain));
        layers.left.notify_all();
    }
}

/// A layer that is being unpacked; dropped before its commit, it is thrown away.
#[derive(Debug)]
pub struct Staged {
    layers: Arc<Layers>,
    path: PathBuf,
}

/// Which layer a staged tree is to become.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name.
    pub chain: ChainId,
    /// The name of the layer below, which has to be committed before.
    pub below: Option<ChainId>,
    /// The digest of its tar.
    pub diff_id: Digest,
}

impl Layers {
    /// Opens or makes the directory; throws away what was half unpacked, and what an earlier boot
    /// did not make durable.
    ///
    /// # Errors
    /// Where the directory cannot be made or read.
    pub fn open(directory: &Path, boot_id: &str) -> Result<Self, Error> {
        let empty = directory.join(EMPTY);
        fs::create_dir_all(&empty).map_err(io_error("make", &empty))?;
        let layers = Self {
            trash: Trash::open(&directory.join(".trash"))?,
            points: points::made(directory.join(POINTS)),
            directory: directory.to_owned(),
            boot_id: boot_id.to_owned(),
            next: AtomicU64::new(0),
            known: RwLock::default(),
            replacing: Replacing::default(),
            sealing: Sealing::default(),
            rewriting: Mutex::default(),
            leaving: Mutex::default(),
            left: Condvar::new(),
        };
        for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
            let name = entry.map_err(io_error("list", directory))?.file_name();
            layers.take_in(&name.to_string_lossy())?;
        }
        Ok(layers)
    }

    /// Looks at one name of the directory.
    fn take_in(&self, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        if name.starts_with(UNFINISHED) {
            return self.trash.throw(&path);
        }
        if name.starts_with(REPLACED) {
            self.replacing.take_in(path);
            return Ok(());
        }
        let Ok(digest) = Digest::from_hex(name) else {
            return Ok(());
        };
        let dropped = match read_record(&path) {
            Ok(record) if record.chain.0 != digest => "its record is another layer's".to_owned(),
            Ok(record) if record.durable || record.boot_id == self.boot_id => {
                self.write_known(|known| known.insert(record));
                return Ok(());
            }
            Ok(_) => "it was not durable before the last boot ended".to_owned(),
            Err(error) => format!("its record cannot be read: {error}"),
        };
        warn!(path = %path.display(), reason = dropped, "layer dropped; it is fetched again");
        self.trash.throw(&path)
    }

    /// Begins a layer in a directory of its own.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn begin(self: &Arc<Self>) -> Result<Staged, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{UNFINISHED}{number}"));
        let tree = path.join(TREE);
        let made = fs::create_dir_all(&tree);
        // The last inode may have gone to the first of the two.
        made.inspect_err(|_| drop(fs::remove_dir(&path)))
            .map_err(io_error("make", &tree))?;
        Ok(Staged {
            layers: Arc::clone(self),
            path,
        })
    }

    /// A layer's record, if it is there.
    #[must_use]
    pub fn get(&self, chain: &ChainId) -> Option<LayerRecord> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(chain)
            .cloned()
    }

    /// All layers' records.
    #[must_use]
    pub fn all(&self) -> Vec<LayerRecord> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .all()
            .cloned()
            .collect()
    }

    /// What all layers take together.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .usage()
    }

    /// Whether a pull can use the layer as it is.
    #[must_use]
    pub fn is_there(&self, chain: &ChainId) -> bool {
        self.get(chain).is_some_and(|record| !record.distrusted)
    }

    /// Has the next pull bring a layer anew, in place of the one that is there; also after a restart.
    /// Writes to the disk.
    pub fn distrust(&self, chain: &ChainId) {
        let _one = self.rewriting();
        let known = self.write_known(|known| {
            let record = known.get_mut(chain);
            record.map(|record| record.distrusted = true)
        });
        let written = known.map_or(Ok(()), |()| {
            let home = Home::open(self.path(chain))?;
            home.map_or(Ok(()), |home| home.distrust())
        });
        if let Err(error) = written {
            let error = crate::error::chain(&error);
            warn!(layer = %chain, error, "a restart would not know that the layer is broken");
        }
    }

    pub(super) fn rewriting(&self) -> MutexGuard<'_, ()> {
        self.rewriting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Throws away trees that were replaced, but for those of layers that somebody has at hand: `held`
    /// tells which, and is asked while nothing can be replaced.
    ///
    /// # Errors
    /// The first that cannot be renamed.
    pub fn discard_replaced(&self, held: impl FnOnce() -> HashSet<ChainId>) -> Result<(), Error> {
        self.replacing.discard(held, &self.trash)
    }

    /// Whether trees that were replaced are still there.
    #[must_use]
    pub fn has_replaced(&self) -> bool {
        self.replacing.has_old()
    }

    /// Holds a layer's files against what they were when it was unpacked, and sealed. Reads all of them, or until it
    /// is to `stop`: then what comes back is not the whole.
    ///
    /// # Errors
    /// `Missing` where it is not there; `NoInventory`.
    pub fn verify(&self, chain: &ChainId, stop: &Stop) -> Result<Verified, Error> {
        let record = self.get(chain);
        let record = record.ok_or_else(|| Error::Missing(chain.clone()))?;
        let digest = record.inventory;
        let digest = digest.ok_or_else(|| Error::NoInventory(chain.clone()))?;
        let path = self.path(chain);
        let seals = record
            .verity
            .map(|digest| Seals::open(&path.join(SEALS), &digest, verity::measure));
        let recorded = Recorded {
            inventory: &path.join(INVENTORY),
            digest: &digest,
            seals,
        };
        Ok(verify(&path.join(TREE), recorded, stop))
    }

    /// The directory of the layers, for statfs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where things that are no longer needed go.
    #[must_use]
    pub fn trash(&self) -> &Trash {
        &self.trash
    }

    /// Forgets layers: they are gone for everyone at once, without a look at the disk.
    pub fn forget(self: &Arc<Self>, chains: Vec<ChainId>) -> Leaving {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.extend(chains.iter().cloned());
        self.write_known(|known| chains.iter().for_each(|chain| known.remove(chain)));
        Leaving {
            layers: Arc::clone(self),
            chains,
        }
    }

    /// Waits until the directory of a layer that was forgotten is out of the way.
    fn await_left(&self, chain: &ChainId) {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let there = |leaving: &mut HashSet<ChainId>| leaving.contains(chain);
        drop(self.left.wait_while(leaving, there));
    }

    /// Makes all layers durable that are not yet. Blocks until the disk has them.
    ///
    /// # Errors
    /// Where the file system cannot be synced or a record not be written.
    pub fn make_durable(&self) -> Result<(), Error> {
        let pending = self.all().into_iter().filter(|record| !record.durable);
        let mut homes = Vec::new();
        for record in pending {
            homes.extend(Home::open(self.path(&record.chain))?);
        }
        if homes.is_empty() {
            return Ok(());
        }
        let directory =
            fs::File::open(&self.directory).map_err(io_error("open", &self.directory))?;
        rustix::fs::syncfs(&directory)
            .map_err(io_error("sync the file system of", &self.directory))?;
        homes.iter().try_for_each(|home| self.mark(home))
    }

    /// Says that a layer's directory was synced: not of another one that has come in its place
    /// meanwhile, whatever its name.
    pub(super) fn mark(&self, home: &Home) -> Result<(), Error> {
        let _one = self.rewriting();
        let Some(record) = home.mark()? else {
            return Ok(());
        };
        // A commit puts its directory in place before it makes it known.
        self.write_known(|known| match known.get_mut(&record.chain) {
            Some(known) if home.is_at_its_path() => *known = record,
            _ => {}
        });
        Ok(())
    }

    /// The trees of a stack given bottom first, nearest (topmost) first, ending at one that hides
    /// all below.
    ///
    /// # Errors
    /// `Missing` where a layer is not there.
    pub fn trees(&self, chains: &[ChainId]) -> Result<Vec<PathBuf>, Error> {
        let mut trees = Vec::with_capacity(chains.len());
        for chain in chains.iter().rev() {
            let record = self
                .get(chain)
                .ok_or_else(|| Error::Missing(chain.clone()))?;
            trees.push(self.path(chain).join(TREE));
            if record.opaque_root {
                break;
            }
        }
        Ok(trees)
    }

    /// A directory without content.
    #[must_use]
    pub fn empty(&self) -> PathBuf {
        self.directory.join(EMPTY)
    }

    /// The bottom of every container's root: the places on which something is mounted. `None`: the disk
    /// refused it.
    #[must_use]
    pub fn points(&self) -> Option<&Path> {
        self.points.as_deref()
    }

    /// What the files that a layer has from lower ones were; `stack` is that of the lower ones, the
    /// bottom one first. One whose inventory does not tell it is broken.
    fn lenders(&self, borrowed: &[Borrowed], stack: &[ChainId]) -> Result<Lenders, Error> {
        let mut known = Lenders::new();
        for (number, chain) in stack.iter().rev().enumerate() {
            let mut its_own = borrowed.iter().filter(|it| it.layer == number).peekable();
            let Some(first) = its_own.peek() else {
                continue;
            };
            let path = first.path.clone();
            let digest = self.get(chain).and_then(|record| record.inventory);
            let inventory = self.path(chain).join(INVENTORY);
            let found = borrowed::look_up(its_own, &inventory, digest.as_ref(), &mut known);
            found.map_err(|source| {
                self.distrust(chain);
                let layer = chain.clone();
                Error::Inventory {
                    layer,
                    path,
                    source,
                }
            })?;
        }
        Ok(known)
    }

    /// The stack that ends with `top`, bottom first.
    pub(super) fn stack(&self, top: Option<&ChainId>) -> Result<Vec<ChainId>, Error> {
        let mut stack = Vec::new();
        let mut next = top.cloned();
        while let Some(chain) = next {
            next = self
                .get(&chain)
                .ok_or_else(|| Error::Missing(chain.clone()))?
                .below;
            stack.push(chain);
        }
        stack.reverse();
        Ok(stack)
    }

    pub(super) fn path(&self, chain: &ChainId) -> PathBuf {
        self.directory.join(chain.0.hex())
    }

    pub(super) fn write_known<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Staged {
    /// The empty directory for the layer's tree.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.path.join(TREE)
    }

    /// Makes the tree a layer of the node. The layer below has to be there.
    ///
    /// # Errors
    /// `Missing` where it is not; `DanglingLink`; what the kernel refuses.
    pub fn commit(self, place: &Place, unpacked: &Unpacked) -> Result<(), Error> {
        let stack = self.layers.stack(place.below.as_ref())?;
        let trees = self.layers.trees(&stack)?;
        let trees = if unpacked.opaque_root {
            &[][..]
        } else {
            &trees[..]
        };
        let lower = Lower::open(trees.iter().map(PathBuf::as_path))
            .map_err(io_error("open the layers below", &self.path))?;
        let borrowed = complete(&self.tree(), unpacked, &lower)?;
        let lenders = self.layers.lenders(&borrowed, &stack)?;
        let path = self.path.join(INVENTORY);
        let written = inventory::write(&self.tree(), &unpacked.contents, &lenders, &path);
        let (inventory, usage) = written.map_err(io_error("write", path))?;
        let record = LayerRecord {
            chain: place.chain.clone(),
            below: place.below.clone(),
            diff_id: place.diff_id.clone(),
            usage,
            opaque_root: unpacked.opaque_root,
            boot_id: self.layers.boot_id.clone(),
            durable: false,
            inventory: Some(inventory),
            distrusted: false,
            verity: None,
        };
        write_record(&self.path, &record)?;
        let path = self.layers.path(&place.chain);
        self.layers.await_left(&place.chain);
        if !self.put(&path, &place.chain)? {
            return Ok(());
        }
        self.layers.write_known(|known| known.insert(record));
        Ok(())
    }

    /// Puts the tree in its place, or in that of a broken one; false where somebody else has made the
    /// same layer meanwhile.
    fn put(&self, path: &Path, chain: &ChainId) -> Result<bool, Error> {
        let Err(error) = fs::rename(&self.path, path) else {
            return Ok(true);
        };
        // XFS has another word for it.
        let is_taken = matches!(
            error.kind(),
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
        );
        let there = self.layers.get(chain);
        if is_taken && there.as_ref().is_some_and(|there| there.distrusted) {
            let replacing = &self.layers.replacing;
            return replacing.exchange(&self.path, path, chain).map(|()| true);
        }
        match is_taken && there.is_some() {
            true => Ok(false),
            false => Err(io_error("commit", path)(error)),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = self.layers.trash.throw(&self.path) {
            warn!(%error, "unfinished layer left for the next start");
        }
    }
}
