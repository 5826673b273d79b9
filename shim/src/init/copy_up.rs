//! `tmpcopyup`: a tmpfs begins with what the image has in its place.
//!
//! Names, contents, owners and modes are copied; extended attributes and the links between files are
//! not.
//!
//! Invariant: everything is found from descriptors and without following links, so nothing of an image
//! leads out of the directory that is copied.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fstat, mkdirat,
    mknodat, openat, readlinkat, sendfile, statat, symlinkat,
};
use rustix::io::Errno;
use std::ffi::CStr;

/// How deep a tree may be.
const DEEPEST: usize = 64;
/// What is copied at a time.
const PIECE: usize = 1 << 20;

/// Copies all below one directory into another.
///
/// # Errors
/// [`FailureKind::Mount`]: what the kernel says, or that the tree is too deep.
pub fn copy(from: &OwnedFd, to: &OwnedFd, at: &str) -> Result<(), Failure> {
    tree(from.as_fd(), to.as_fd(), DEEPEST).at(FailureKind::Mount, || {
        format!("copy the image's files up to {at}")
    })
}

fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(openat(from, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let (inner, made) = (open(from, name, flags)?, open(to, name, flags)?);
            tree(inner.as_fd(), made.as_fd(), depth)?;
        }
        FileType::RegularFile => file(from, to, name)?,
        FileType::Symlink => {
            symlinkat(&*readlinkat(from, name, Vec::new())?, to, name)?;
            return own(to, name, &stat);
        }
        kind => mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    own(to, name, &stat)?;
    chmodat(to, name, mode, AtFlags::empty())
}

fn open(at: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(at, name, flags, Mode::RUSR | Mode::WUSR)
}

fn own(at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = open(from, name, reading)?;
    if FileType::from_raw_mode(fstat(&source)?.st_mode) != FileType::RegularFile {
        return Err(Errno::LOOP);
    }
    let writing = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = open(to, name, writing)?;
    while sendfile(&made, &source, None, PIECE)? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn opened(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn a_tree_is_copied_with_its_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("deep/er/file"), "content").unwrap();
        fs::set_permissions(
            from.join("deep/er/file"),
            fs::Permissions::from_mode(0o4711),
        )
        .unwrap();
        symlink("/etc", from.join("link")).unwrap();
        copy(&opened(&from), &opened(&to), "/x").unwrap();
        assert_eq!(
            fs::read_to_string(to.join("deep/er/file")).unwrap(),
            "content"
        );
        assert_eq!(
            fs::metadata(to.join("deep/er/file")).unwrap().mode() & 0o7777,
            0o4711
        );
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc"));
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("to");
        fs::create_dir(&to).unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", DEEPEST + 1).collect();
        fs::create_dir_all(dir.path().join("from").join(deep)).unwrap();
        let refused = copy(&opened(&dir.path().join("from")), &opened(&to), "/x").unwrap_err();
        assert_eq!(refused.errno, libc::ELOOP);
    }
}
