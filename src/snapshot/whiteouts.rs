//! Whiteouts that hide nothing are taken away. Overlayfs leaves them out only where it merges a
//! directory of several layers: in a directory that one layer has alone, or that is opaque, a
//! whiteout would be listed, and be absent when it is looked at.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, FileType},
    io::Errno,
};

use super::{
    complete::{beneath_plainly, file_name},
    lower::{Lower, OPAQUE},
    relocate::Relocated,
};

/// Takes away those of `whiteouts` that hide nothing.
pub(super) fn drop_idle(
    layer: &OwnedFd,
    lower: &Lower,
    whiteouts: &[PathBuf],
    relocated: &Relocated,
) -> Result<(), Errno> {
    for path in whiteouts {
        let path = relocated.now_at(path);
        // What a later entry replaced is no whiteout any more.
        let Ok(holder) = beneath_plainly(layer, parent(&path)) else {
            continue;
        };
        if is_whiteout(&holder, &path) && !hides(layer, lower, &path)? {
            fs::unlinkat(&holder, file_name(&path), AtFlags::empty())?;
        }
    }
    Ok(())
}

fn is_whiteout(holder: &OwnedFd, path: &Path) -> bool {
    fs::statat(holder, file_name(path), AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

/// Whether lower layers would show something at `path` without the whiteout.
fn hides(layer: &OwnedFd, lower: &Lower, path: &Path) -> Result<bool, Errno> {
    Ok(lower.find(path)?.is_some() && !is_below_opaque(layer, path))
}

fn is_below_opaque(layer: &OwnedFd, path: &Path) -> bool {
    let opaque = |directory: &Path| {
        let directory = beneath_plainly(layer, directory);
        directory.is_ok_and(|directory| fs::fgetxattr(directory, OPAQUE, &mut [0; 8]).is_ok())
    };
    path.ancestors().skip(1).any(opaque)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
