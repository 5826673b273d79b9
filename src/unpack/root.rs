//! The directory that a layer is unpacked into, and how names are found beneath it.
//!
//! Every lookup is an `openat2` with `RESOLVE_IN_ROOT`: a symbolic link that the layer made itself
//! is followed as it would be in the container, never out of it. Directories stay open, since tars
//! go directory by directory, and come back to those above. Invariant: no path is ever resolved
//! against the host's root, and the last component of a name is never followed.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags},
    io::Errno,
};

use super::{
    Usage,
    error::Error,
    path::{EntryPath, to_path},
};
use crate::trees;

/// Mode of a directory that the layer does not mention.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);
/// What a record of a path costs beside its bytes, about.
const RECORD: u64 = 64;
/// Components on the way to one directory, with those of links.
const MOST_STEPS: usize = 512;
/// Directories that one layer keeps open. What the daemon may open is shared by all that it does.
const MOST_OPEN: usize = 256;
/// The mark of a directory that hides what lower layers have below it.
const OPAQUE: &str = "trusted.overlay.opaque";

/// The tree of a layer while it is made.
pub(super) struct Root {
    fd: OwnedFd,
    /// By the name under which each was reached. Forgotten as soon as anything gives way to something
    /// else, which may be what a name led through.
    open: HashMap<Vec<u8>, OwnedFd>,
    implied: BTreeSet<Vec<u8>>,
    /// Bytes that `implied` took.
    pub remembered: u64,
    /// What the tree takes so far.
    pub usage: Usage,
}

impl Root {
    /// Takes an empty directory.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = fs::open(directory, flags, Mode::empty()).map_err(apply("open", b""))?;
        // Whatever the umask; and a setgid bit of the store's own directories is not inherited.
        fs::fchmod(&fd, IMPLIED_MODE).map_err(apply("set the mode of", b""))?;
        let mut usage = Usage::default();
        usage.add_directory();
        Ok(Self {
            fd,
            open: HashMap::new(),
            implied: BTreeSet::from([Vec::new()]),
            remembered: 0,
            usage,
        })
    }

    /// The directories that were made or left without being mentioned, parents first; the root is
    /// the empty path.
    pub fn into_implied(self) -> (BTreeSet<Vec<u8>>, Usage) {
        (self.implied, self.usage)
    }

    /// The layer mentions this directory: its attributes are its own.
    pub fn mentioned(&mut self, path: &EntryPath) {
        self.implied.remove(path.as_bytes());
    }

    /// The directory that is to hold `path`, made where it is missing.
    pub fn parent(&mut self, path: &EntryPath) -> Result<&OwnedFd, Error> {
        self.directory(path.parent())
    }

    /// The directory at `path`, made where it is missing.
    pub fn directory(&mut self, path: &[u8]) -> Result<&OwnedFd, Error> {
        if path.is_empty() {
            return Ok(&self.fd);
        }
        if !self.open.contains_key(path) {
            let fd = match self.lookup(path) {
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_all(path)?,
                found => found.map_err(apply("open the directory", path))?,
            };
            if self.open.len() == MOST_OPEN {
                self.open.clear();
            }
            self.open.insert(path.to_vec(), fd);
        }
        Ok(&self.open[path])
    }

    /// The directory at `path`, if it is there.
    pub fn existing(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        self.lookup(path).map_err(apply("open the directory", path))
    }

    /// The directory at `path` with symbolic links resolved beneath the root.
    fn lookup(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(&self.fd, path, flags, Mode::empty(), resolve)
    }

    /// Makes each missing component of `path`. A symbolic link of this layer may lead to where only
    /// lower layers have a directory: then it is made there, where the link leads.
    fn make_all(&mut self, path: &[u8]) -> Result<OwnedFd, Error> {
        let path = self.resolved(path)?;
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = slashes.map(|(at, _)| at).chain([path.len()]).collect();
        let mut at = self.existing(b"")?;
        let mut start = 0;
        for end in ends {
            at = match self.lookup(&path[..end]) {
                Ok(found) => found,
                Err(_) => self.make_implied(&at, &path[..end], &path[start..end])?,
            };
            start = end + 1;
        }
        Ok(at)
    }

    /// The path with the links of this layer followed beneath the root; what is missing counts as a
    /// directory.
    fn resolved(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let (mut done, mut left) = (Vec::new(), parts(path));
        for _ in 0..MOST_STEPS {
            let Some(name) = left.pop() else {
                return Ok(done);
            };
            if name == b".." {
                done.truncate(done.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let next = join(&done, &name);
            // No component of it is a link, so it is beneath the root.
            match fs::readlinkat(&self.fd, next.as_slice(), Vec::new()) {
                Ok(link) => {
                    if link.as_bytes().starts_with(b"/") {
                        done.clear();
                    }
                    left.extend(parts(link.as_bytes()));
                    if left.len() > MOST_STEPS {
                        break;
                    }
                }
                Err(_) => done = next,
            }
        }
        Err(apply("open the directory", path)(Errno::LOOP))
    }

    /// Makes one directory that the layer has not mentioned. One in place of a whiteout is opaque:
    /// the layer said that what was there is gone.
    fn make_implied(
        &mut self,
        parent: &OwnedFd,
        path: &[u8],
        name: &[u8],
    ) -> Result<OwnedFd, Error> {
        let failed = |errno| apply("make the directory", path)(errno);
        let over_whiteout = is_whiteout(parent, name);
        if over_whiteout {
            fs::unlinkat(parent, name, AtFlags::empty()).map_err(failed)?;
        } else {
            self.usage.add_directory();
        }
        fs::mkdirat(parent, name, IMPLIED_MODE).map_err(failed)?;
        let made = self.lookup(path).map_err(failed)?;
        fs::fchmod(&made, IMPLIED_MODE).map_err(failed)?;
        if over_whiteout {
            make_opaque(&made).map_err(failed)?;
        } else {
            self.remembered += RECORD + path.len() as u64;
            self.implied.insert(path.to_vec());
        }
        Ok(made)
    }

    /// Makes room for another entry; tells `gone` the inodes of the directories that go.
    pub fn clear(&mut self, path: &EntryPath, gone: impl FnMut(u64)) -> Result<(), Error> {
        self.open.clear();
        let parent = self.existing(path.parent())?;
        let failed = |errno| apply("replace", path.as_bytes())(errno);
        let stat = fs::statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.forget_implied(path);
            return self.remove_tree(&parent, path.name(), gone).map_err(failed);
        }
        fs::unlinkat(&parent, path.name(), AtFlags::empty()).map_err(failed)?;
        self.usage.take_away(&stat);
        Ok(())
    }

    /// Forgets a directory and all below it: not a look at each, for a layer may do this for every
    /// one that it has.
    fn forget_implied(&mut self, path: &EntryPath) {
        let below = [path.as_bytes(), b"/"].concat();
        let first = |implied: &BTreeSet<Vec<u8>>| {
            let next = implied.range(below.clone()..).next().cloned();
            next.filter(|next| next.starts_with(&below))
        };
        self.implied.remove(path.as_bytes());
        while let Some(next) = first(&self.implied) {
            self.implied.remove(&next);
        }
    }

    /// Removes a directory and all below it without following anything.
    fn remove_tree(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        mut gone: impl FnMut(u64),
    ) -> Result<(), Errno> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        trees::remove_at(parent.as_fd(), &name, |stat| {
            if trees::is_directory(stat) {
                gone(stat.st_ino);
                self.usage.take_away_directory();
            } else {
                self.usage.take_away(stat);
            }
        })
    }
}

/// The components, the last one first; without those that lead nowhere.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').rev();
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts.map(<[u8]>::to_vec).collect()
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder.is_empty() {
        true => name.to_vec(),
        false => [folder, b"/", name].concat(),
    }
}

/// Whether overlayfs reads this name as "deleted": a character device 0:0.
pub(super) fn is_whiteout(parent: &OwnedFd, name: &[u8]) -> bool {
    fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

/// Marks a directory as hiding what lower layers have below it.
pub(super) fn make_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

/// The error of a system call on a path of the layer.
pub(super) fn apply(operation: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error + use<> {
    let path = to_path(path);
    move |errno| Error::Apply {
        operation,
        path,
        source: errno.into(),
    }
}
