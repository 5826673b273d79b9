//! What a tree is made of, and how two trees differ: names, types, modes, owners, devices, times,
//! link counts and which names are one file, xattrs, contents.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    fs,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use corten::id::Digest;
use corten_shim::api::RootfsMount;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

/// A line for each name: all that is to be alike.
pub type Tree = BTreeMap<PathBuf, String>;

/// Reads the tree below `root`, the root itself as the empty path. What has a time after `since`
/// was made without being told one.
pub fn read(root: &Path, since: i64) -> Tree {
    let (mut tree, mut first) = (Tree::new(), HashMap::new());
    walk(root, Path::new(""), &mut tree, &mut first);
    let told = |line: &mut String| {
        let time = line.split(' ').nth(2).unwrap_or_default().to_owned();
        let seconds = time.split('.').next().and_then(|text| text.parse().ok());
        if seconds.is_some_and(|seconds: i64| seconds >= since) {
            *line = line.replacen(&time, "now", 1);
        }
    };
    tree.values_mut().for_each(told);
    tree
}

fn walk(root: &Path, at: &Path, tree: &mut Tree, first: &mut HashMap<u64, PathBuf>) {
    let path = root.join(at);
    let stat = match at.as_os_str().is_empty() {
        true => fs::metadata(&path),
        false => fs::symlink_metadata(&path),
    };
    let line = match &stat {
        Ok(stat) => describe(&path, at, stat, first),
        Err(error) => format!("is listed, and cannot be looked at: {error}"),
    };
    tree.insert(at.to_owned(), line);
    if !stat.is_ok_and(|stat| stat.is_dir()) {
        return;
    }
    let names = fs::read_dir(&path).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        walk(root, &at.join(name), tree, first);
    }
}

fn describe(
    path: &Path,
    at: &Path,
    stat: &fs::Metadata,
    first: &mut HashMap<u64, PathBuf>,
) -> String {
    let mut line = format!(
        "{:o} {}:{} {}.{:09}",
        stat.mode(),
        stat.uid(),
        stat.gid(),
        stat.mtime(),
        stat.mtime_nsec()
    );
    if !stat.is_dir() {
        // What a link leads to is in its content; which names are one file in the first of them.
        let same = first.entry(stat.ino()).or_insert_with(|| at.to_owned());
        let (links, device, content) = (stat.nlink(), stat.rdev(), content(path, stat));
        let _ = write!(line, " links {links} of {same:?} device {device} {content}");
    }
    for (name, value) in xattrs(path, at) {
        let _ = write!(line, " {name}={value:?}");
    }
    line
}

fn content(path: &Path, stat: &fs::Metadata) -> String {
    if stat.is_symlink() {
        return format!("-> {:?}", fs::read_link(path).unwrap());
    }
    match stat.is_file() {
        true => format!(
            "{} bytes {}",
            stat.len(),
            Digest::of(&fs::read(path).unwrap())
        ),
        false => String::new(),
    }
}

/// All but those that are overlayfs' own or the node's.
fn xattrs(path: &Path, at: &Path) -> Vec<(String, Vec<u8>)> {
    let is_root = at.as_os_str().is_empty();
    let mut names = vec![0; 1 << 16];
    let length = match is_root {
        true => rustix::fs::listxattr(path, &mut names[..]),
        false => rustix::fs::llistxattr(path, &mut names[..]),
    };
    let names = names[..length.unwrap()].split(|byte| *byte == 0);
    let names = names.filter(|name| {
        !name.is_empty() && !name.starts_with(b"trusted.") && *name != b"security.selinux"
    });
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let length = match is_root {
            true => rustix::fs::getxattr(path, name, &mut value[..]),
            false => rustix::fs::lgetxattr(path, name, &mut value[..]),
        };
        value.truncate(length.unwrap());
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    let mut all: Vec<_> = names.map(value).collect();
    all.sort();
    all
}

/// A line for each name that is not the same in both.
pub fn differences(ours: &Tree, theirs: &Tree) -> Vec<String> {
    let names = ours.keys().chain(theirs.keys());
    let names: std::collections::BTreeSet<_> = names.collect();
    let differ = names
        .into_iter()
        .filter(|name| ours.get(*name) != theirs.get(*name));
    let side = |line: Option<&String>| line.cloned().unwrap_or_else(|| "absent".to_owned());
    let show = |name: &PathBuf| {
        let name_shown = String::from_utf8_lossy(name.as_os_str().as_bytes()).into_owned();
        let (our, their) = (side(ours.get(name)), side(theirs.get(name)));
        format!("{name_shown:.60}\n  corten {our}\n  umoci  {their}")
    };
    differ.map(show).collect()
}

/// A mount that no name leads to; it ends with the descriptor.
pub struct Mounted(OwnedFd);

impl Mounted {
    /// What the shim would mount for a container.
    pub fn new(mount: &RootfsMount) -> Self {
        let context = fsopen(&*mount.fs_type, FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(&context, "source", &*mount.source).unwrap();
        for option in &mount.options {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&context, key, value).unwrap(),
                None => fsconfig_set_flag(&context, &**option).unwrap(),
            }
        }
        fsconfig_create(&context).unwrap();
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Self(fsmount(&context, flags, MountAttrFlags::empty()).unwrap())
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/", self.0.as_raw_fd()))
    }
}
