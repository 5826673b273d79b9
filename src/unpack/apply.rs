//! Applies the entries of a layer to its directory: files, links, devices, whiteouts, attributes.
//!
//! The layer stands alone in its directory, so that all layers of an image can be applied at once.
//! What refers to a lower layer is either in overlayfs' own terms (whiteouts become devices 0:0,
//! opaque marks an xattr) or noted in [`Unpacked`] for the commit (implied directories, hard links
//! to files of lower layers).

use std::{
    collections::HashMap,
    fs::File,
    os::fd::AsRawFd,
    os::fd::OwnedFd,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
    process::{getegid, geteuid},
};

use super::{
    PendingLink, Unpacked,
    endings::{DEFAULT_ACL, Ending, Endings},
    error::Error,
    path::{EntryPath, to_path},
    root::{Root, apply, is_whiteout, make_opaque},
    stream::{Source, Stream},
    sums::{self, Content, Contents, Sum},
    tar::{Entry, EntryKind, Sparse},
};
use crate::model::image_policy::DeviceNodes;

/// The prefix of a name that deletes the rest of it from lower layers.
const WHITEOUT: &[u8] = b".wh.";
/// The name that deletes all that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The prefix of aufs' own bookkeeping, which means nothing here.
const AUFS: &[u8] = b".wh..wh.";

/// What a record of a path costs beside the path's bytes, about.
const RECORD: u64 = 96;

/// What a layer may make this process hold or the disk carry, whatever its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Entries, and inodes with the directories that no entry mentions.
    pub entries: u64,
    /// Bytes of memory for what the end has to know.
    pub remembered: u64,
}

impl Limits {
    /// Far more than any image that serves a purpose.
    pub const DEFAULT: Self = Self {
        entries: 10_000_000,
        remembered: 256 << 20,
    };
}

/// Applies entries one after another.
pub(super) struct Applier {
    root: Root,
    limits: Limits,
    devices: DeviceNodes,
    entries: u64,
    /// Bytes of `links`, `whiteouts` and `contents`.
    remembered: u64,
    endings: Endings,
    links: Vec<Option<PendingLink>>,
    /// The place of each in `links`.
    pending: HashMap<EntryPath, usize>,
    whiteouts: Vec<PathBuf>,
    opaque_root: bool,
    contents: Contents,
    /// Used for one file after the other.
    sum: Sum,
    /// Bits that the kernel takes off the mode of a new file.
    umask: Mode,
    /// The owner and group that a new file gets.
    own: (u32, u32),
}

impl Applier {
    /// Starts on an empty directory.
    pub fn new(directory: &Path, limits: Limits, devices: DeviceNodes) -> Result<Self, Error> {
        Ok(Self {
            devices,
            root: Root::open(directory)?,
            limits,
            entries: 0,
            remembered: 0,
            endings: Endings::default(),
            links: Vec::new(),
            pending: HashMap::new(),
            whiteouts: Vec::new(),
            opaque_root: false,
            contents: Contents::default(),
            sum: Sum::default(),
            umask: umask(),
            own: (geteuid().as_raw(), getegid().as_raw()),
        })
    }

    /// Applies one entry and consumes its data.
    pub fn entry<R: Source>(&mut self, entry: &Entry, data: &mut Stream<R>) -> Result<(), Error> {
        let path = EntryPath::parse(&entry.path)?;
        self.entries += 1;
        self.within_limits(&path)?;
        if path.name().starts_with(WHITEOUT) {
            data.skip(entry.size)?;
            return self.whiteout(&path);
        }
        if path.is_root() && entry.kind != EntryKind::Directory {
            return Err(Error::name(&entry.path));
        }
        match entry.kind {
            EntryKind::Directory => self.directory(path, entry),
            EntryKind::File => self.file(&path, entry, data),
            EntryKind::HardLink => self.hard_link(&path, entry),
            EntryKind::Symlink => self.symlink(&path, entry),
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                self.node(&path, entry)
            }
        }
    }

    fn within_limits(&self, path: &EntryPath) -> Result<(), Error> {
        let too_many = |what, limit| {
            let entry = path.to_path();
            Err(Error::TooMany { entry, what, limit })
        };
        if self.entries.max(self.root.usage.inodes) > self.limits.entries {
            return too_many("entries", self.limits.entries);
        }
        let remembered = self.remembered + self.root.remembered + self.endings.remembered;
        if remembered > self.limits.remembered {
            return too_many("bytes of directories and links", self.limits.remembered);
        }
        Ok(())
    }

    /// Gives directories what they get last and tells what the commit has to know.
    pub fn finish(self) -> Result<Unpacked, Error> {
        self.endings.apply(&self.root)?;
        let (implied, usage) = self.root.into_implied();
        Ok(Unpacked {
            usage,
            implied: implied.iter().map(|path| to_path(path)).collect(),
            links: self.links.into_iter().flatten().collect(),
            whiteouts: self.whiteouts,
            opaque_root: self.opaque_root,
            contents: self.contents,
        })
    }

    fn directory(&mut self, path: EntryPath, entry: &Entry) -> Result<(), Error> {
        let bare = mode(entry).difference(Mode::SGID);
        let is_new = !path.is_root() && self.make_directory(&path, bare)?;
        self.root.mentioned(&path);
        let (differs, owned) = (self.differs(bare), self.owned(entry));
        let directory = self.root.directory(path.as_bytes())?;
        let failed = |errno| apply("set the attributes of", path.as_bytes())(errno);
        if !is_new || !owned {
            fs::fchown(directory, owner(entry), group(entry)).map_err(failed)?;
        }
        if !is_new || differs {
            fs::fchmod(directory, bare).map_err(failed)?;
        }
        for (name, value) in kept_xattrs(entry).filter(|(name, _)| *name != DEFAULT_ACL) {
            fs::fsetxattr(directory, name, value, XattrFlags::empty()).map_err(failed)?;
        }
        let failed = apply("look at", path.as_bytes());
        let remembered = self.endings.insert(directory, path, Ending::of(entry));
        remembered.map_err(failed)
    }

    /// A directory of this name, over whatever the layer had there. Gives whether it was made, with
    /// this mode but for the umask.
    fn make_directory(&mut self, path: &EntryPath, mode: Mode) -> Result<bool, Error> {
        self.replaces_pending(path);
        let parent = self.root.parent(path)?;
        let failed = |errno| apply("make the directory", path.as_bytes())(errno);
        match fs::mkdirat(parent, path.name(), mode) {
            Ok(()) => {
                self.root.usage.add_directory();
                return Ok(true);
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let stat = fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(false);
        }
        let over_whiteout = is_whiteout(parent, path.name());
        self.clear(path)?;
        self.make_directory(path, mode)?;
        if over_whiteout {
            make_opaque(&self.root.existing(path.as_bytes())?).map_err(failed)?;
        }
        Ok(true)
    }

    fn file<R: Source>(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        data: &mut Stream<R>,
    ) -> Result<(), Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.create(path, "create", |parent, name| {
            fs::openat(parent, name, flags, mode(entry))
        })?;
        let file = File::from(file);
        self.sum.restart();
        let (sum, sparse) = (&mut self.sum, entry.sparse.as_ref());
        let size = match sparse {
            Some(sparse) => write_pieces(&file, sparse, data, path, sum)?,
            None => write_all(&file, entry.size, data, path, sum)?,
        };
        self.remember(&file, sparse)
            .map_err(apply("look at", path.as_bytes()))?;
        self.root.usage.add_file(size);
        self.file_attributes(&file, entry)
            .map_err(apply("set the attributes of", path.as_bytes()))
    }

    /// Keeps the sum of what was written to a file.
    fn remember(&mut self, file: &File, sparse: Option<&Sparse>) -> Result<(), Errno> {
        let pieces = sparse.map(|sparse| sparse.pieces.clone());
        let extra = pieces.as_ref().map_or(0, |pieces| 16 * pieces.len() as u64);
        self.remembered += sums::COST + extra;
        let sum = self.sum.value();
        self.contents.insert(file, Content { sum, pieces })
    }

    /// Only what differs from what a new file of this process has.
    fn file_attributes(&self, file: &File, entry: &Entry) -> Result<(), Errno> {
        if !self.owned(entry) {
            fs::fchown(file, owner(entry), group(entry))?;
        }
        if self.differs(mode(entry)) {
            fs::fchmod(file, mode(entry))?;
        }
        for (name, value) in kept_xattrs(entry) {
            fs::fsetxattr(file, name, value, XattrFlags::empty())?;
        }
        fs::futimens(file, &timestamps(entry.mtime))
    }

    /// Whether what this process makes has the entry's owner and group from the start.
    fn owned(&self, entry: &Entry) -> bool {
        (entry.uid, entry.gid) == self.own
    }

    /// Whether what is made with this mode may have another.
    fn differs(&self, mode: Mode) -> bool {
        mode.intersects(self.umask | Mode::SUID | Mode::SGID | Mode::SVTX)
    }

    fn hard_link(&mut self, path: &EntryPath, entry: &Entry) -> Result<(), Error> {
        let target = EntryPath::parse(&entry.link)?;
        if target.is_root() {
            return Err(Error::name(&entry.link));
        }
        if &target == path {
            return Ok(());
        }
        let Some(holder) = self.holder(&target) else {
            return self.pending_link(path, &target);
        };
        self.create(path, "link", |parent, name| {
            fs::linkat(&holder, target.name(), parent, name, AtFlags::empty())
        })
    }

    /// The directory of a link's target, if this layer has the target.
    fn holder(&self, target: &EntryPath) -> Option<OwnedFd> {
        let holder = self.root.existing(target.parent()).ok()?;
        let found = fs::statat(&holder, target.name(), AtFlags::SYMLINK_NOFOLLOW).is_ok();
        (found && !is_whiteout(&holder, target.name())).then_some(holder)
    }

    /// The target must be in a lower layer: linked at the commit, when those are there.
    fn pending_link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), Error> {
        let parent = self.root.parent(path)?;
        if fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            self.clear(path)?;
        }
        self.replaces_pending(path);
        let bytes = 2 * path.as_bytes().len() + target.as_bytes().len();
        self.remembered += 2 * RECORD + bytes as u64;
        self.pending.insert(path.clone(), self.links.len());
        self.links.push(Some(PendingLink {
            path: path.to_path(),
            target: target.to_path(),
        }));
        Ok(())
    }

    /// A later entry of the same name wins.
    fn replaces_pending(&mut self, path: &EntryPath) {
        if let Some(place) = self.pending.remove(path) {
            self.links[place] = None;
        }
    }

    fn symlink(&mut self, path: &EntryPath, entry: &Entry) -> Result<(), Error> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(Error::name(&entry.link));
        }
        self.create(path, "create", |parent, name| {
            fs::symlinkat(entry.link.as_slice(), parent, name)
        })?;
        self.root.usage.add_inode();
        self.node_attributes(path, entry)
    }

    fn node(&mut self, path: &EntryPath, entry: &Entry) -> Result<(), Error> {
        if self.devices == DeviceNodes::Refuse && entry.kind != EntryKind::Fifo {
            return Err(Error::Device(path.to_path()));
        }
        let kind = match entry.kind {
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = fs::makedev(entry.device.0, entry.device.1);
        self.create(path, "create", |parent, name| {
            fs::mknodat(parent, name, kind, mode(entry), device)
        })?;
        self.root.usage.add_inode();
        let parent = self.root.parent(path)?;
        // The name was made just now in a tree that nobody else sees, and is no symbolic link.
        fs::chmodat(parent, path.name(), mode(entry), AtFlags::empty())
            .map_err(apply("set the mode of", path.as_bytes()))?;
        self.node_attributes(path, entry)
    }

    /// Owner, xattrs and time of what cannot be opened.
    fn node_attributes(&mut self, path: &EntryPath, entry: &Entry) -> Result<(), Error> {
        let parent = self.root.parent(path)?;
        let failed = |errno| apply("set the attributes of", path.as_bytes())(errno);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        fs::chownat(
            parent,
            path.name(),
            Some(owner_id(entry)),
            Some(group_id(entry)),
            nofollow,
        )
        .map_err(failed)?;
        if entry.kind != EntryKind::Symlink {
            // chown takes setuid and setgid off.
            fs::chmodat(parent, path.name(), mode(entry), AtFlags::empty()).map_err(failed)?;
        }
        let through = [
            format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
            path.name(),
        ]
        .concat();
        for (name, value) in kept_xattrs(entry).filter(|(name, _)| !name.starts_with(b"user.")) {
            fs::lsetxattr(through.as_slice(), name, value, XattrFlags::empty()).map_err(failed)?;
        }
        fs::utimensat(parent, path.name(), &timestamps(entry.mtime), nofollow).map_err(failed)
    }

    /// Makes a name, over whatever the layer had there.
    fn create<T>(
        &mut self,
        path: &EntryPath,
        operation: &'static str,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        self.replaces_pending(path);
        let made = match make(self.root.parent(path)?, path.name()) {
            Err(Errno::EXIST) => {
                self.clear(path)?;
                make(self.root.parent(path)?, path.name())
            }
            made => made,
        };
        made.map_err(apply(operation, path.as_bytes()))
    }

    /// Makes room for another entry.
    fn clear(&mut self, path: &EntryPath) -> Result<(), Error> {
        let gone = |inode| self.endings.forget(inode);
        self.root.clear(path, gone)
    }

    fn whiteout(&mut self, path: &EntryPath) -> Result<(), Error> {
        let name = path.name();
        if name == OPAQUE {
            return self.opaque(path);
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(Error::name(path.as_bytes()));
        }
        self.hide(path, hidden)
    }

    /// Hides a name of lower layers. What this layer itself has there stays; a directory of its
    /// own then hides what is below.
    fn hide(&mut self, path: &EntryPath, name: &[u8]) -> Result<(), Error> {
        let failed = |errno| apply("white out", path.as_bytes())(errno);
        let parent = self.root.parent(path)?;
        match fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.root.usage.add_inode();
                self.remembered += RECORD + path.as_bytes().len() as u64;
                self.whiteouts
                    .push(to_path(path.parent()).join(to_path(name)));
            }
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                match fs::openat(parent, name, flags, Mode::empty()) {
                    Ok(directory) => make_opaque(&directory).map_err(failed)?,
                    Err(Errno::NOTDIR | Errno::LOOP) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            }
            Err(errno) => return Err(failed(errno)),
        }
        Ok(())
    }

    /// Overlayfs does not look for the mark on a layer's root, so that is remembered instead.
    fn opaque(&mut self, path: &EntryPath) -> Result<(), Error> {
        if path.parent().is_empty() {
            self.opaque_root = true;
            return Ok(());
        }
        make_opaque(self.root.parent(path)?).map_err(apply("white out", path.as_bytes()))
    }
}

/// Writes a file front to back.
fn write_all<R: Source>(
    file: &File,
    size: u64,
    data: &mut Stream<R>,
    path: &EntryPath,
    sum: &mut Sum,
) -> Result<u64, Error> {
    let mut left = size;
    while left > 0 {
        let chunk = data.chunk(left)?;
        std::io::Write::write_all(&mut &*file, chunk).map_err(|source| writing(path, source))?;
        sum.add(chunk);
        left -= chunk.len() as u64;
    }
    Ok(size)
}

/// Writes a sparse file's pieces and leaves the rest a hole; gives the bytes that are no hole.
fn write_pieces<R: Source>(
    file: &File,
    sparse: &Sparse,
    data: &mut Stream<R>,
    path: &EntryPath,
    sum: &mut Sum,
) -> Result<u64, Error> {
    file.set_len(sparse.real_size)
        .map_err(|source| writing(path, source))?;
    let mut written = 0;
    for (offset, length) in &sparse.pieces {
        let mut done = 0;
        while done < *length {
            let chunk = data.chunk(length - done)?;
            file.write_all_at(chunk, offset + done)
                .map_err(|source| writing(path, source))?;
            sum.add(chunk);
            done += chunk.len() as u64;
        }
        written += length;
    }
    Ok(written)
}

fn writing(path: &EntryPath, source: std::io::Error) -> Error {
    Error::Apply {
        operation: "write",
        path: path.to_path(),
        source,
    }
}

/// Attributes that mean the same in the container as where the image was built. Overlayfs' own
/// marks from an image would redirect or hide files at will, and labels are the node's matter.
pub(super) fn kept_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let kept = |name: &[u8]| {
        (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
            || matches!(
                name,
                b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
            )
    };
    let pairs = entry
        .xattrs
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()));
    pairs.filter(move |(name, _)| kept(name) && !name.contains(&0))
}

/// The permissions that it has.
pub(super) fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode)
}

fn owner_id(entry: &Entry) -> Uid {
    Uid::from_raw(entry.uid)
}

fn group_id(entry: &Entry) -> Gid {
    Gid::from_raw(entry.gid)
}

fn owner(entry: &Entry) -> Option<Uid> {
    Some(owner_id(entry))
}

fn group(entry: &Entry) -> Option<Gid> {
    Some(group_id(entry))
}

/// The time as the kernel is told it.
pub(super) fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The process' umask, without changing it even for a moment: other threads make files too.
fn umask() -> Mode {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let bits = line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    // Unknown: assume that any bit may be taken off.
    Mode::from_raw_mode(bits.unwrap_or(0o777))
}
