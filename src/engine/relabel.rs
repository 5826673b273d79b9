//! SELinux: the categories of a pod, and the label of volumes that the kubelet asks to be relabelled.
//!
//! A volume's tree is walked by descriptors and no link is followed, so that nobody who writes to it
//! meanwhile can have another file labelled.
//!
//! Unproved on a node with SELinux: the attribute itself is written on any.

use crate::error::{Context, Error, Kind, Result};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, XattrFlags, getxattr, openat, setxattr};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

const ATTRIBUTE: &str = "security.selinux";
/// Categories are numbers below this.
const CATEGORIES: u32 = 1024;
/// The node's own: other programs need their labels. Any of their children may be a volume.
const NOT_VOLUMES: [&str; 23] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt",
    "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib",
    "/var/log", "/var/tmp",
];
/// Directories below directories; a tree that is deeper is nobody's volume, and descriptors are few.
const DEEPEST: usize = 256;

/// The level of a pod for which none was asked: two categories that no other pod has together.
pub fn level(taken: &BTreeSet<String>) -> String {
    loop {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).expect("the kernel's random source answers once it is seeded");
        let [a, b, c, d] = bytes.map(u32::from);
        let (one, other) = ((a << 8 | b) % CATEGORIES, (c << 8 | d) % CATEGORIES);
        let level = format!("s0:c{},c{}", one.min(other), one.max(other));
        if one != other && !taken.contains(&level) {
            return level;
        }
    }
}

/// Gives a volume and all that is in it this label. A file system without labels is left alone.
///
/// # Errors
/// `InvalidArgument` where it is a directory of the node's own; else which file could not be labelled.
pub fn relabel(volume: &Path, label: &str) -> Result<()> {
    if NOT_VOLUMES.iter().any(|own| volume == Path::new(own)) {
        return Err(Error::invalid(format!(
            "mounts.selinux_relabel: {} is the node's own, and is not relabelled",
            volume.display()
        )));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let root = rustix::fs::open(volume, flags, Mode::empty());
    let root = root.context(Kind::Internal, || format!("open {}", volume.display()))?;
    let mut walk = Walk {
        label,
        path: volume.to_owned(),
        depth: 0,
    };
    walk.object(&root)
}

struct Walk<'a> {
    label: &'a str,
    /// Where it is, for who reads an error.
    path: PathBuf,
    depth: usize,
}

impl Walk<'_> {
    /// An object that is held, and what is in it.
    fn object(&mut self, object: &OwnedFd) -> Result<()> {
        let done = self.set(object);
        if done == Err(Errno::OPNOTSUPP) {
            return Ok(());
        }
        let stat = done.and_then(|()| rustix::fs::fstat(object));
        let stat = stat.context(Kind::Internal, || {
            format!("relabel {}", self.path.display())
        })?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(object),
            _ => Ok(()),
        }
    }

    /// Writing the label that is there would change its time for nothing. What `/proc` names is the
    /// object that is held, also where it is a link.
    fn set(&self, object: &OwnedFd) -> Result<(), Errno> {
        let path = format!("/proc/self/fd/{}", object.as_raw_fd());
        let mut old = [0u8; 256];
        let label = self.label.as_bytes();
        if let Ok(length) = getxattr(&path, ATTRIBUTE, &mut old)
            && old[..length].strip_suffix(b"\0").unwrap_or(&old[..length]) == label
        {
            return Ok(());
        }
        setxattr(&path, ATTRIBUTE, label, XattrFlags::empty())
    }

    fn directory(&mut self, held: &OwnedFd) -> Result<()> {
        let failed = |path: &Path| format!("relabel what is in {}", path.display());
        if self.depth == DEEPEST {
            return Err(Error::internal(failed(&self.path)).caused_by("it is too deep"));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let opened = openat(held, c".", flags, Mode::empty()).and_then(Dir::new);
        let entries = opened.context(Kind::Internal, || failed(&self.path))?;
        self.depth += 1;
        for entry in entries {
            let entry = entry.context(Kind::Internal, || failed(&self.path))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                self.entry(held, entry.file_name())?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn entry(&mut self, directory: &OwnedFd, name: &CStr) -> Result<()> {
        self.path.push(name.to_string_lossy().as_ref());
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(directory.as_fd(), name, flags, Mode::empty()) {
            Ok(object) => self.object(&object)?,
            // Somebody has removed it.
            Err(Errno::NOENT) => {}
            Err(errno) => {
                let failed = format!("open {}", self.path.display());
                return Err(Error::internal(failed).caused_by(std::io::Error::from(errno)));
            }
        }
        self.path.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    fn label(path: &Path) -> Option<String> {
        let mut buffer = [0u8; 256];
        let length = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn levels_are_two_categories_that_nobody_else_has() {
        let mut taken = BTreeSet::new();
        for _ in 0..2000 {
            let level = level(&taken);
            let (one, other) = level
                .strip_prefix("s0:c")
                .unwrap()
                .split_once(",c")
                .unwrap();
            assert!(
                one.parse::<u32>().unwrap() < other.parse().unwrap(),
                "{level}"
            );
            assert!(other.parse::<u32>().unwrap() < CATEGORIES, "{level}");
            assert!(taken.insert(level));
        }
    }

    #[test]
    fn what_is_the_nodes_own_is_refused() {
        for own in ["/", "/etc", "/var/lib"] {
            assert_eq!(
                relabel(Path::new(own), LABEL).unwrap_err().kind(),
                Kind::InvalidArgument
            );
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn root_a_volume_is_labelled_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        for file in [volume.join("a/b/file"), outside.join("file")] {
            fs::write(file, "x").unwrap();
        }
        symlink(&outside, volume.join("away")).unwrap();
        symlink(outside.join("file"), volume.join("a/file")).unwrap();
        relabel(&volume, LABEL).unwrap();
        for inside in ["", "a", "a/b", "a/b/file", "away", "a/file"] {
            assert_eq!(
                label(&volume.join(inside)).as_deref(),
                Some(LABEL),
                "{inside:?}"
            );
        }
        for untouched in [outside.clone(), outside.join("file")] {
            assert_eq!(label(&untouched), None, "{}", untouched.display());
        }
        let before = fs::metadata(volume.join("a")).unwrap();
        relabel(&volume, LABEL).unwrap();
        let after = fs::metadata(volume.join("a")).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!(
            (before.ctime(), before.ctime_nsec()),
            (after.ctime(), after.ctime_nsec())
        );
    }
}
