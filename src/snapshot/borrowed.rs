//! Files that a layer has from a lower one, by a hard link. What they were is in the inventory of that
//! layer. What they are is not asked: the disk may have broken one since, and then the broken content
//! would be taken for the right one from here on, and be read for it besides.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use super::inventory::{Entries, Entry};
use crate::id::Digest;

/// A file of a lower layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Borrowed {
    /// Its inode, which the link has too.
    pub inode: u64,
    /// Of which layer: their number, the nearest one first.
    pub layer: usize,
    /// Its path there.
    pub path: PathBuf,
}

/// What borrowed files were, by their inodes; `None` where nobody knows, for their layer was unpacked by
/// a version that kept no inventory.
pub(super) type Known = HashMap<u64, Option<Entry>>;

/// Adds to `known` what the `borrowed` files of one layer were: the inventory at `path`, which has
/// this digest.
pub(super) fn look_up<'a>(
    borrowed: impl Iterator<Item = &'a Borrowed>,
    path: &Path,
    digest: Option<&Digest>,
    known: &mut Known,
) -> io::Result<()> {
    let wanted: HashMap<_, _> = borrowed
        .map(|it| (it.path.as_os_str().as_encoded_bytes(), it.inode))
        .collect();
    let Some(digest) = digest else {
        known.extend(wanted.values().map(|inode| (*inode, None)));
        return Ok(());
    };
    let (mut entries, mut left) = (Entries::open(path, digest)?, wanted.len());
    while left > 0 {
        let entry = entries.next()?;
        let entry = entry.ok_or_else(|| io::Error::other("a file of the layer is not in it"))?;
        if let Some(inode) = wanted.get(entry.path.as_slice()) {
            known.insert(*inode, Some(entry));
            left -= 1;
        }
    }
    Ok(())
}
