//! Sums of files' contents, taken while they are written, so that nothing is read again for them.
//!
//! XXH3 and not a cryptographic digest: what a sum is kept in lies beside the file, so who can change
//! one can change the other. It is there to find what disks, cables and power cuts do to files, and
//! costs a tenth of the SHA-256 that already proves what came over the network.

use std::{collections::HashMap, os::fd::AsFd};

use rustix::{fs, io::Errno};
use xxhash_rust::xxh3::Xxh3;

/// What one file's content is, about, in memory.
pub(super) const COST: u64 = 48;

/// The bytes of a file that were written, summed: in order, without the holes.
#[derive(Clone)]
pub struct Sum(Box<Xxh3>);

impl Default for Sum {
    fn default() -> Self {
        Self(Box::new(Xxh3::new()))
    }
}

impl Sum {
    /// The sum of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> u64 {
        xxhash_rust::xxh3::xxh3_64(bytes)
    }

    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of all that was taken.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.digest()
    }

    /// Forgets what was taken.
    pub fn restart(&mut self) {
        self.0.reset();
    }
}

/// What is known of a file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// XXH3 (64 bits) of its bytes, or of its pieces.
    pub sum: u64,
    /// Of a sparse file: offset and length of each piece that is no hole.
    pub pieces: Option<Vec<(u64, u64)>>,
}

/// The contents of a layer's files by inode: names change until the layer is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents(HashMap<u64, Content>);

impl Contents {
    /// Remembers what was written to a file. A later file may have the inode of one that was
    /// replaced: the later counts.
    pub(super) fn insert(&mut self, file: impl AsFd, content: Content) -> Result<(), Errno> {
        self.0.insert(fs::fstat(file)?.st_ino, content);
        Ok(())
    }

    /// What was written to the file of this inode.
    #[must_use]
    pub fn get(&self, inode: u64) -> Option<&Content> {
        self.0.get(&inode)
    }
}
