//! What directories get last: each entry that is made in one changes its time, and would inherit its
//! group (setgid) and its default ACL.
//!
//! Invariant: only the directory that an entry was for gets what the entry says. So it is known by its
//! inode: its name may lead elsewhere in the end, where a later entry puts a link in its place or in
//! that of a directory above.

use std::{collections::HashMap, os::fd::OwnedFd};

use rustix::{
    fs::{self, Mode, XattrFlags},
    io::Errno,
};

use super::{
    apply::{kept_xattrs, mode, timestamps},
    error::Error,
    path::EntryPath,
    root::{Root, apply},
    tar::Entry,
};

/// The xattr of a directory that new entries in it get.
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// What a record of a path costs beside the path's bytes, about.
const RECORD: u64 = 96;

/// What one directory gets last.
pub(super) struct Ending {
    time: (i64, u32),
    /// Where it has the setgid bit.
    mode: Option<Mode>,
    default_acl: Option<Vec<u8>>,
}

impl Ending {
    /// What the entry says of it.
    pub fn of(entry: &Entry) -> Self {
        let acl = kept_xattrs(entry).find(|(name, _)| *name == DEFAULT_ACL);
        Self {
            time: entry.mtime,
            mode: Some(mode(entry)).filter(|mode| mode.contains(Mode::SGID)),
            default_acl: acl.map(|(_, value)| value.to_vec()),
        }
    }

    fn apply(&self, directory: &OwnedFd) -> Result<(), Errno> {
        if let Some(mode) = self.mode {
            fs::fchmod(directory, mode)?;
        }
        if let Some(acl) = &self.default_acl {
            fs::fsetxattr(directory, DEFAULT_ACL, acl, XattrFlags::empty())?;
        }
        fs::futimens(directory, &timestamps(self.time))
    }

    /// Bytes that it takes.
    fn cost(&self, path: &EntryPath) -> u64 {
        let acl = self.default_acl.as_ref().map_or(0, Vec::len);
        RECORD + (path.as_bytes().len() + acl) as u64
    }
}

/// What all directories of a layer get last.
#[derive(Default)]
pub(super) struct Endings {
    by_inode: HashMap<u64, (EntryPath, Ending)>,
    /// Bytes that they take.
    pub remembered: u64,
}

impl Endings {
    /// Remembers what a directory gets; the last entry for it counts.
    pub fn insert(
        &mut self,
        directory: &OwnedFd,
        path: EntryPath,
        ending: Ending,
    ) -> Result<(), Errno> {
        let inode = fs::fstat(directory)?.st_ino;
        self.forget(inode);
        self.remembered += ending.cost(&path);
        self.by_inode.insert(inode, (path, ending));
        Ok(())
    }

    /// The directory is gone; another one may get its inode.
    pub fn forget(&mut self, inode: u64) {
        if let Some((path, ending)) = self.by_inode.remove(&inode) {
            self.remembered -= ending.cost(&path);
        }
    }

    /// Gives each directory what it gets.
    pub fn apply(&self, root: &Root) -> Result<(), Error> {
        for (inode, (path, ending)) in &self.by_inode {
            // One that nothing leads to by this name any more keeps what it has.
            let Ok(directory) = root.existing(path.as_bytes()) else {
                continue;
            };
            let failed = |errno| apply("set the attributes of", path.as_bytes())(errno);
            if fs::fstat(&directory).map_err(failed)?.st_ino == *inode {
                ending.apply(&directory).map_err(failed)?;
            }
        }
        Ok(())
    }
}
