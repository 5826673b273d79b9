//! Makes a layer that was unpacked alone what it would be had it been applied onto those below:
//! directories that it does not mention get the attributes they have there, and hard links to
//! files of lower layers are made.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::fd::OwnedFd,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    buffer::spare_capacity,
    fs::{self, AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    borrowed::Borrowed,
    error::{Error, io_error},
    lower::{Found, Lower},
    relocate::{relocate, resolve},
    whiteouts::drop_idle,
};
use crate::unpack::{PendingLink, Unpacked};

/// The kernel's limit of one attribute's value and of the list of names (`xattr(7)`).
const LARGEST_XATTR: usize = 64 * 1024;

/// Completes the layer whose tree is at `root`. It is not yet in use. Gives the files that it has from
/// lower layers.
pub(super) fn complete(
    root: &Path,
    unpacked: &Unpacked,
    lower: &Lower,
) -> Result<Vec<Borrowed>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let layer = fs::open(root, flags, Mode::empty()).map_err(io_error("open", root))?;
    let (mut made, mut borrowed) = (HashSet::new(), Vec::new());
    for link in &unpacked.links {
        borrowed.extend(make_link(&layer, lower, link, &made)?);
        made.insert(&link.path);
    }
    let relocated = relocate(&layer, lower, &unpacked.implied);
    let relocated = relocated.map_err(io_error("move through links of lower layers in", root))?;
    drop_idle(&layer, lower, &unpacked.whiteouts, &relocated)
        .map_err(io_error("take idle whiteouts away in", root))?;
    // Last and deepest first: each link and each change below gives a directory a new time.
    for path in relocated.implied.iter().rev() {
        copy_attributes(&layer, lower, path)
            .map_err(io_error("set the attributes of", root.join(path)))?;
    }
    Ok(borrowed)
}

/// Gives a directory the owner, mode, xattrs and time that it has below.
fn copy_attributes(layer: &OwnedFd, lower: &Lower, path: &Path) -> Result<(), Errno> {
    let Some(Found::Directory(from)) = lower.find(path)? else {
        return Ok(());
    };
    let to = match beneath_plainly(layer, path) {
        // Reached through a symbolic link of this layer: then it is not this directory.
        Err(Errno::LOOP | Errno::NOTDIR) => return Ok(()),
        to => to?,
    };
    let (stat, now) = (fs::fstat(&from)?, fs::fstat(&to)?);
    if (now.st_uid, now.st_gid) != (stat.st_uid, stat.st_gid) {
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fs::fchown(&to, Some(owner), Some(group))?;
    }
    if now.st_mode != stat.st_mode {
        fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    copy_xattrs(&from, &to)?;
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as _,
    };
    fs::futimens(
        &to,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )
}

/// All but overlayfs' own, which say something about the layer and not about the directory.
fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut names = Vec::with_capacity(LARGEST_XATTR);
    match fs::flistxattr(from, spare_capacity(&mut names)) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        listed => listed?,
    };
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || name.starts_with(b"trusted.") || name.starts_with(b"security.selinux")
        {
            continue;
        }
        let mut value = Vec::with_capacity(LARGEST_XATTR);
        fs::fgetxattr(from, name, spare_capacity(&mut value))?;
        fs::fsetxattr(to, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Makes a hard link whose target is one of those that were `made` just before, or below: what else
/// the layer has there came after the link. Gives the file below that it now has.
fn make_link(
    layer: &OwnedFd,
    lower: &Lower,
    link: &PendingLink,
    made: &HashSet<&PathBuf>,
) -> Result<Option<Borrowed>, Error> {
    let failed = |errno: Errno| io_error("link", &link.path)(errno);
    let own = parent(layer, &link.target)
        .ok()
        .filter(|_| made.contains(&link.target))
        .filter(|own| fs::statat(own, file_name(&link.target), AtFlags::SYMLINK_NOFOLLOW).is_ok());
    let (holder, name, borrowed) = match own {
        Some(own) => (own, link.target.clone(), None),
        None => {
            let (holder, borrowed) = below(lower, link)?;
            (holder, borrowed.path.clone(), Some(borrowed))
        }
    };
    let into = parent(layer, &link.path).map_err(failed)?;
    match fs::unlinkat(&into, file_name(&link.path), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed(errno)),
    }
    fs::linkat(
        &holder,
        file_name(&name),
        &into,
        file_name(&link.path),
        AtFlags::empty(),
    )
    .map_err(failed)?;
    Ok(borrowed)
}

/// The file of a lower layer that a link names, and the directory that holds it.
fn below(lower: &Lower, link: &PendingLink) -> Result<(OwnedFd, Borrowed), Error> {
    let failed = |errno: Errno| io_error("look below for the target of", &link.path)(errno);
    let folder = resolve(lower, link.target.parent().unwrap_or(Path::new(""))).map_err(failed)?;
    let target = folder.join(to_path(file_name(&link.target)));
    match lower.find(&target).map_err(failed)? {
        Some(Found::Other(holder, layer)) => {
            let name = file_name(&target);
            let stat = fs::statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            let borrowed = Borrowed {
                inode: stat.st_ino,
                layer,
                path: target,
            };
            Ok((holder, borrowed))
        }
        _ => Err(Error::DanglingLink {
            path: link.path.clone(),
            target: link.target.clone(),
        }),
    }
}

fn parent(layer: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    beneath(layer, path.parent().unwrap_or(Path::new("")), resolve)
}

fn beneath(layer: &OwnedFd, path: &Path, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::openat2(layer, path, flags, Mode::empty(), resolve)
}

/// A directory of the layer, reached without following anything.
pub(super) fn beneath_plainly(layer: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    beneath(
        layer,
        path,
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

/// The last component.
pub(super) fn file_name(path: &Path) -> &[u8] {
    path.file_name().map(OsStrExt::as_bytes).unwrap_or_default()
}

/// Bytes as a path.
pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
