//! The layers below one, seen as overlayfs shows them merged: what a layer does not say itself is
//! looked up here.
//!
//! Invariant: nothing is followed: a path is walked component by component with `O_NOFOLLOW`.

use std::{
    ffi::OsStr,
    io,
    os::fd::OwnedFd,
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

/// The mark of a directory that hides what is below it.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

/// A stack of layer roots, nearest first.
pub(super) struct Lower(Vec<OwnedFd>);

/// What the stack shows at a path.
pub(super) enum Found {
    /// A directory; the nearest layer's has the attributes.
    Directory(OwnedFd),
    /// Anything else, in this directory of the layer with this number, the nearest one first.
    Other(OwnedFd, usize),
}

impl Lower {
    /// Opens the roots, nearest first.
    pub fn open<'a>(roots: impl IntoIterator<Item = &'a Path>) -> Result<Self, Errno> {
        let roots = roots
            .into_iter()
            .map(|root| fs::open(root, directory_flags(), Mode::empty()));
        roots.collect::<Result<_, _>>().map(Self)
    }

    /// What the stack shows at `path`; `None` where it shows nothing.
    pub fn find(&self, path: &Path) -> Result<Option<Found>, Errno> {
        let roots = self.0.iter().enumerate();
        let mut layers = roots
            .map(|(number, root)| Ok((number, root.try_clone()?)))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))?;
        let mut names = path
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .peekable();
        while let Some(name) = names.next() {
            let mut next = Vec::new();
            if let Some(other) = step(layers, name, &mut next)? {
                return Ok(names.peek().is_none().then_some(other));
            }
            if next.is_empty() {
                return Ok(None);
            }
            layers = next;
        }
        let nearest = layers.into_iter().next();
        Ok(nearest.map(|(_, directory)| Found::Directory(directory)))
    }
}

/// Goes into `name`: the directories that merge there go to `next`; what hides them comes back.
fn step(
    layers: Vec<(usize, OwnedFd)>,
    name: &OsStr,
    next: &mut Vec<(usize, OwnedFd)>,
) -> Result<Option<Found>, Errno> {
    for (number, layer) in layers {
        let stat = match fs::statat(&layer, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let whiteout = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
                && stat.st_rdev == 0;
            let is_shown = next.is_empty() && !whiteout;
            return Ok(is_shown.then_some(Found::Other(layer, number)));
        }
        let directory = fs::openat(&layer, name.as_bytes(), directory_flags(), Mode::empty())?;
        let opaque = fs::fgetxattr(&directory, OPAQUE, &mut [0; 8]).is_ok();
        next.push((number, directory));
        if opaque {
            break;
        }
    }
    Ok(None)
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}
