//! Holds a layer's tree against its inventory, file for file, and what the kernel tells of each against the
//! list of its seals, where it has one.
//!
//! Clean pages are dropped before a file is read, so that the disk is asked and not the memory (pages
//! that a running program has mapped stay). Memory does not grow with the layer.

use std::{
    cmp::Ordering,
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{self, AtomicBool},
    },
};

use rustix::{
    fs::{Advice, fadvise},
    io::Errno,
};

use super::{
    complete::to_path,
    inventory::{self, Entries, Entry, What},
    verity::{Seal, Seals},
    walk::{Place, order, walk},
};
use crate::id::Digest;

/// In which way a name is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It is gone.
    Missing,
    /// Content, size, mode, owner or type is another one.
    Changed,
    /// It was not there.
    Extra,
    /// The disk does not give it.
    Unreadable,
}

/// A name that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// In which way.
    pub difference: Difference,
    /// Below the layer's tree.
    pub path: PathBuf,
    /// What was expected and what is there.
    pub detail: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// What is not as it was, in the order of the tree.
    pub deviations: Vec<Deviation>,
    /// Bytes read.
    pub bytes: u64,
}

/// How somebody who asked for a verification ends it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on nothing more is read; what was found so far is all there is.
    pub fn ask(&self) {
        self.0.store(true, atomic::Ordering::Relaxed);
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(atomic::Ordering::Relaxed)
    }
}

/// What is known of a tree.
pub(super) struct Recorded<'a> {
    /// Where its inventory is.
    pub inventory: &'a Path,
    /// What digest that has.
    pub digest: &'a Digest,
    /// The seals of its files, where they are sealed and the list can be read.
    pub seals: Option<io::Result<Seals>>,
}

/// Compares the tree with what is recorded of it.
pub(super) fn verify(tree: &Path, recorded: Recorded<'_>, stop: &Stop) -> Verified {
    let mut comparison = Comparison {
        stop: stop.clone(),
        ..Comparison::default()
    };
    if let Err(error) = comparison.run(tree, recorded) {
        let detail = error.to_string();
        comparison.found(Difference::Unreadable, b"", detail);
    }
    comparison.result
}

#[derive(Default)]
struct Comparison {
    result: Verified,
    stop: Stop,
    /// Sums of files with several names, by inode: each is read once.
    linked: HashMap<u64, u64>,
    /// The entry that is next, read ahead.
    next: Option<Entry>,
    /// Those of the files of the entries to come.
    seals: Option<Seals>,
}

impl Comparison {
    fn run(&mut self, tree: &Path, recorded: Recorded<'_>) -> io::Result<()> {
        let unreadable = |error| io::Error::other(format!("the layer's inventory: {error}"));
        let unsealed = |error| io::Error::other(format!("the list of the layer's seals: {error}"));
        let entries = Entries::open(recorded.inventory, recorded.digest);
        let mut entries = entries.map_err(unreadable)?;
        self.seals = recorded.seals.transpose().map_err(unsealed)?;
        self.next = entries.next().map_err(unreadable)?;
        walk::<io::Error>(tree, |place| self.place(place, &mut entries))?;
        while self.next.is_some() {
            self.missing(&mut entries)?;
        }
        Ok(())
    }

    fn place(&mut self, place: &Place<'_>, entries: &mut Entries) -> io::Result<()> {
        if self.stop.is_asked() {
            return Err(Errno::CANCELED.into());
        }
        loop {
            let ahead = self.next.as_ref();
            match ahead.map(|entry| order(&entry.path, place.path)) {
                Some(Ordering::Less) => self.missing(entries)?,
                Some(Ordering::Equal) => break,
                Some(Ordering::Greater) | None => {
                    self.found(
                        Difference::Extra,
                        place.path,
                        "it was not in the layer".into(),
                    );
                    return Ok(());
                }
            }
        }
        if let Some((entry, seal)) = self.take(entries)? {
            self.compare(place, &entry, seal);
        }
        Ok(())
    }

    fn missing(&mut self, entries: &mut Entries) -> io::Result<()> {
        if let Some((entry, _)) = self.take(entries)? {
            self.found(Difference::Missing, &entry.path, "it is gone".into());
        }
        Ok(())
    }

    /// The entry that is next, and of a file its seal.
    fn take(&mut self, entries: &mut Entries) -> io::Result<Option<(Entry, Option<Seal>)>> {
        let Some(entry) = std::mem::replace(&mut self.next, entries.next()?) else {
            return Ok(None);
        };
        let seals = self.seals.as_mut();
        let seal = match (seals, &entry.what) {
            (Some(seals), What::File(..)) => Some(seals.next()?),
            _ => None,
        };
        Ok(Some((entry, seal)))
    }

    fn compare(&mut self, place: &Place<'_>, was: &Entry, seal: Option<Seal>) {
        let stat = &place.stat;
        if stat.st_mode != was.mode {
            let detail = format!("its mode is {:o}, was {:o}", stat.st_mode, was.mode);
            return self.found(Difference::Changed, place.path, detail);
        }
        if (stat.st_uid, stat.st_gid) != (was.uid, was.gid) {
            let (uid, gid) = (was.uid, was.gid);
            let detail = format!(
                "its owner is {}:{}, was {uid}:{gid}",
                stat.st_uid, stat.st_gid
            );
            return self.found(Difference::Changed, place.path, detail);
        }
        let held = self.content(place, &was.what);
        let held = held.and_then(|differs| match (differs, &self.seals, seal) {
            (None, Some(seals), Some(seal)) => seals.differs(&inventory::open(place)?, &seal),
            (differs, ..) => Ok(differs),
        });
        match held {
            Ok(None) => {}
            Ok(Some(detail)) => self.found(Difference::Changed, place.path, detail),
            Err(error) => self.found(Difference::Unreadable, place.path, error.to_string()),
        }
    }

    /// What is wrong with what a name holds; `None`: nothing.
    fn content(&mut self, place: &Place<'_>, was: &What) -> io::Result<Option<String>> {
        let differs = |differs: bool, what: &str| differs.then(|| what.to_owned());
        Ok(match was {
            What::Plain => None,
            What::Device(number) => differs(place.stat.st_rdev != *number, "it is another device"),
            What::Link(sum) => differs(inventory::link(place)? != *sum, "it leads elsewhere"),
            What::File(size, ..) if inventory::size(&place.stat) != *size => Some(format!(
                "its size is {}, was {size}",
                inventory::size(&place.stat)
            )),
            What::File(_, sum, pieces) => {
                let actual = self.sum(place, pieces.as_deref())?;
                differs(actual != *sum, "its content is another one")
            }
        })
    }

    fn sum(&mut self, place: &Place<'_>, pieces: Option<&[(u64, u64)]>) -> io::Result<u64> {
        // The sum of a sparse file is one of the pieces that its entry names.
        let is_shared = place.stat.st_nlink > 1 && pieces.is_none();
        if let Some(sum) = self.linked.get(&place.stat.st_ino).filter(|_| is_shared) {
            return Ok(*sum);
        }
        let file = inventory::open(place)?;
        // Best effort: a file system without it is read from memory.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        let (sum, read) = inventory::read_sum(&file, pieces, &self.stop)?;
        self.result.bytes += read;
        if is_shared {
            self.linked.insert(place.stat.st_ino, sum);
        }
        Ok(sum)
    }

    fn found(&mut self, difference: Difference, path: &[u8], detail: String) {
        self.result.deviations.push(Deviation {
            difference,
            path: to_path(path),
            detail,
        });
    }
}

#[cfg(test)]
mod tests;
