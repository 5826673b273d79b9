//! The names of a layer's tree in one order: a directory before what is in it, names by their bytes.
//! Two walks of the same tree can be held against each other without either in memory.
//!
//! Invariant: no symbolic link is followed.

use std::{cmp::Ordering, ffi::CString, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

/// Directories in directories: more than `unpack` lets a layer have, with room for the links of lower
/// layers. A tree that is deeper was not unpacked by us.
const DEEPEST: usize = 512;

/// One name of a tree.
pub(super) struct Place<'a> {
    /// From the root of the tree, without a slash before it; empty for the root itself.
    pub path: &'a [u8],
    /// What it is.
    pub stat: Stat,
    /// The directory that has it; of the root the root itself.
    pub parent: &'a OwnedFd,
    /// Its name there; `.` for the root.
    pub name: &'a [u8],
}

impl Place<'_> {
    /// What kind of file it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Shows every name of the tree at `root`, itself first.
pub(super) fn walk<E: From<Errno>>(
    root: &Path,
    mut seen: impl FnMut(&Place<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let directory = fs::open(root, flags(), Mode::empty())?;
    seen(&Place {
        path: b"",
        stat: fs::fstat(&directory)?,
        parent: &directory,
        name: b".",
    })?;
    descend(&directory, &mut Vec::new(), 0, &mut seen)
}

fn descend<E: From<Errno>>(
    parent: &OwnedFd,
    path: &mut Vec<u8>,
    depth: usize,
    seen: &mut impl FnMut(&Place<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if depth > DEEPEST {
        return Err(Errno::NAMETOOLONG.into());
    }
    for name in names(parent)? {
        let (name, length) = (name.as_bytes(), path.len());
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let place = Place {
            path,
            stat,
            parent,
            name,
        };
        seen(&place)?;
        if place.kind() == FileType::Directory {
            let below = fs::openat(parent, name, flags(), Mode::empty())?;
            descend(&below, path, depth + 1, seen)?;
        }
        path.truncate(length);
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Which of two paths a walk shows first.
pub(super) fn order(one: &[u8], other: &[u8]) -> Ordering {
    let parts = |path| <[u8]>::split(path, |byte| *byte == b'/');
    match (one.is_empty(), other.is_empty()) {
        (false, false) => parts(one).cmp(parts(other)),
        (one, other) => other.cmp(&one),
    }
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_walk() {
        let root = tempfile::TempDir::new().unwrap();
        for path in ["a/b/c", "a/b-c", "a.d/x", "a-z", "b"] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut paths: Vec<Vec<u8>> = Vec::new();
        walk::<Errno>(root.path(), |place| {
            paths.push(place.path.to_vec());
            Ok(())
        })
        .unwrap();
        let text: Vec<_> = paths
            .iter()
            .map(|path| String::from_utf8_lossy(path))
            .collect();
        let expected = ["", "a", "a/b", "a/b/c", "a/b-c", "a-z", "a.d", "a.d/x", "b"];
        assert_eq!(text, expected);
        assert!(paths.is_sorted_by(|one, other| order(one, other) == Ordering::Less));
    }
}
