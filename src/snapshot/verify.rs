//! Holds a layer's tree against its inventory, file for file.
//!
//! Clean pages are dropped before a file is read, so that the disk is asked and not the memory (pages
//! that a running program has mapped stay). Memory does not grow with the layer.

use std::{
    cmp::Ordering,
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Advice, fadvise};

use super::{
    complete::to_path,
    inventory::{self, Entries, Entry, What},
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

/// Compares the tree with the inventory at `path`, which has this digest.
pub(super) fn verify(tree: &Path, path: &Path, digest: &Digest) -> Verified {
    let mut comparison = Comparison::default();
    if let Err(error) = comparison.run(tree, path, digest) {
        let detail = error.to_string();
        comparison.found(Difference::Unreadable, b"", detail);
    }
    comparison.result
}

#[derive(Default)]
struct Comparison {
    result: Verified,
    /// Sums of files with several names, by inode: each is read once.
    linked: HashMap<u64, u64>,
    /// The entry that is next, read ahead.
    next: Option<Entry>,
}

impl Comparison {
    fn run(&mut self, tree: &Path, path: &Path, digest: &Digest) -> io::Result<()> {
        let unreadable = |error| io::Error::other(format!("the layer's inventory: {error}"));
        let mut entries = Entries::open(path, digest).map_err(unreadable)?;
        self.next = entries.next().map_err(unreadable)?;
        walk::<io::Error>(tree, |place| self.place(place, &mut entries))?;
        while self.next.is_some() {
            self.missing(&mut entries)?;
        }
        Ok(())
    }

    fn place(&mut self, place: &Place<'_>, entries: &mut Entries) -> io::Result<()> {
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
        if let Some(entry) = std::mem::replace(&mut self.next, entries.next()?) {
            self.compare(place, &entry);
        }
        Ok(())
    }

    fn missing(&mut self, entries: &mut Entries) -> io::Result<()> {
        if let Some(entry) = std::mem::replace(&mut self.next, entries.next()?) {
            self.found(Difference::Missing, &entry.path, "it is gone".into());
        }
        Ok(())
    }

    fn compare(&mut self, place: &Place<'_>, was: &Entry) {
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
        match self.content(place, &was.what) {
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
        if let Some(sum) = self.linked.get(&place.stat.st_ino) {
            return Ok(*sum);
        }
        let file = inventory::open(place)?;
        // Best effort: a file system without it is read from memory.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        let (sum, read) = inventory::read_sum(&file, pieces)?;
        self.result.bytes += read;
        if place.stat.st_nlink > 1 {
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
