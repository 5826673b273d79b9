//! The file system that writable layers are on, and the names of block devices.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What is mounted: the device's file, where there is one.
    pub device: String,
    /// Its size.
    pub bytes: u64,
    /// Its inodes; 0 where their number is not fixed.
    pub inodes: u64,
    /// Those that are free.
    pub inodes_free: u64,
}

impl Disk {
    /// The one that a directory is on; `None` where the kernel does not say.
    pub fn of(directory: &Path) -> Option<Self> {
        let told = rustix::fs::statvfs(directory).ok()?;
        let path = fs::canonicalize(directory).ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Some(Self {
            device: source_of(&mounts, &path).unwrap_or_default(),
            bytes: told.f_blocks.saturating_mul(told.f_frsize),
            inodes: told.f_files,
            inodes_free: told.f_ffree,
        })
    }
}

/// What is mounted where the path is (proc_pid_mountinfo(5)): the deepest mount above it, and of several
/// in one place the last.
fn source_of(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (own, super_block) = line.split_once(" - ")?;
        let point = PathBuf::from(own.split(' ').nth(4)?.replace("\\040", " "));
        let source = super_block.split(' ').nth(1)?;
        Some((point, source))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    let deepest = above.max_by_key(|(point, _)| point.components().count());
    deepest.map(|(_, source)| source.to_owned())
}

/// Names of block devices, each looked up once.
#[derive(Debug, Default)]
pub struct BlockDevices(RefCell<BTreeMap<(u32, u32), String>>);

impl BlockDevices {
    /// `/dev/vda1`; the numbers (`253:1`) where there is no name.
    pub fn name(&self, major: u32, minor: u32) -> String {
        let mut known = self.0.borrow_mut();
        let name = known.entry((major, minor));
        name.or_insert_with(|| look_up(major, minor)).clone()
    }
}

fn look_up(major: u32, minor: u32) -> String {
    let numbers = format!("{major}:{minor}");
    let link = fs::read_link(Path::new("/sys/dev/block").join(&numbers)).ok();
    let name = link.as_deref().and_then(Path::file_name);
    // A slash in a device's name is an exclamation mark in sysfs.
    name.map_or(numbers, |name| {
        format!("/dev/{}", name.to_string_lossy().replace('!', "/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:25 / /run rw - tmpfs tmpfs rw
40 21 253:16 / /var/lib/corten rw - ext4 /dev/vdb rw
41 21 253:32 / /var/lib/corten rw - xfs /dev/vdc rw
50 21 0:30 / /var/lib/cor rw - tmpfs other rw
";

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let of = |path: &str| source_of(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(of("/var/lib/corten/containers"), "/dev/vdc");
        assert_eq!(of("/var/lib/cortenx"), "/dev/vda");
        assert_eq!(of("/run/corten"), "tmpfs");
        assert_eq!(source_of("", Path::new("/")), None);
    }

    #[test]
    fn a_directory_has_a_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::of(directory.path()).unwrap();
        assert!(disk.bytes > 0 && disk.inodes >= disk.inodes_free);
        assert!(!disk.device.is_empty());
        assert_eq!(Disk::of(&directory.path().join("absent")), None);
    }

    #[test]
    fn a_device_without_a_name_has_its_numbers() {
        let devices = BlockDevices::default();
        assert_eq!(devices.name(4000, 7), "4000:7");
        for entry in fs::read_dir("/sys/dev/block")
            .into_iter()
            .flatten()
            .flatten()
            .take(3)
        {
            let numbers = entry.file_name().into_string().unwrap();
            let (major, minor) = numbers.split_once(':').unwrap();
            let name = devices.name(major.parse().unwrap(), minor.parse().unwrap());
            assert!(name.starts_with("/dev/"), "{numbers} is {name}");
        }
    }
}
