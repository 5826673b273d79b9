//! Where the cgroup hierarchies of this node are mounted.
//!
//! Read from the text of `/proc/self/mountinfo` once, because a node does not move its hierarchies
//! and a path per controller is all that reading and limiting a cgroup needs.
//!
//! Invariant: text in, paths out; nobody is asked whether they exist.

use super::host::CgroupMode;
use std::path::{Path, PathBuf};

/// One version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyHierarchy {
    /// Its controllers; empty for one that only has a name, such as `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub root: PathBuf,
}

/// All hierarchies of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Those of version 1, in the order in which they were mounted.
    pub legacy: Vec<LegacyHierarchy>,
    /// Where the one of version 2 is mounted.
    pub unified: Option<PathBuf>,
}

/// The words that `/proc/self/mountinfo` gives for version 1 mounts and that name no controller.
const MOUNT_FLAGS: [&str; 8] = [
    "rw",
    "ro",
    "none",
    "all",
    "xattr",
    "noprefix",
    "clone_children",
    "favordynmods",
];

impl Hierarchies {
    /// Reads the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). A hierarchy that is
    /// mounted twice counts where it was mounted first.
    #[must_use]
    pub fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            if let Some(mount) = Mount::parse(line) {
                found.add(&mount);
            }
        }
        found
    }

    fn add(&mut self, mount: &Mount<'_>) {
        let root = PathBuf::from(unescape(mount.point));
        match mount.kind {
            "cgroup2" if self.unified.is_none() => self.unified = Some(root),
            "cgroup" => self.add_legacy(root, mount.super_options),
            _ => {}
        }
    }

    fn add_legacy(&mut self, root: PathBuf, options: &str) {
        let controllers: Vec<String> = options
            .split(',')
            .filter(|word| !MOUNT_FLAGS.contains(word) && !word.contains('='))
            .map(str::to_owned)
            .collect();
        let known = self
            .legacy
            .iter()
            .any(|h| h.root == root || (!controllers.is_empty() && h.controllers == controllers));
        if !known {
            self.legacy.push(LegacyHierarchy { controllers, root });
        }
    }

    /// Where this controller's version 1 hierarchy is mounted.
    #[must_use]
    pub fn legacy(&self, controller: &str) -> Option<&Path> {
        self.legacy
            .iter()
            .find(|h| h.controllers.iter().any(|c| c == controller))
            .map(|h| h.root.as_path())
    }

    /// Every mount point, those of version 1 first.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.legacy
            .iter()
            .map(|h| h.root.as_path())
            .chain(self.unified.as_deref())
    }

    /// The mount points of what has controllers, and of version 2.
    pub fn controlled(&self) -> impl Iterator<Item = &Path> {
        self.legacy
            .iter()
            .filter(|h| !h.controllers.is_empty())
            .map(|h| h.root.as_path())
            .chain(self.unified.as_deref())
    }

    /// Which kind of node this is. A hierarchy without controllers (`name=systemd`) does not make
    /// a node hybrid.
    #[must_use]
    pub fn mode(&self) -> CgroupMode {
        let legacy = self.legacy.iter().any(|h| !h.controllers.is_empty());
        match (&self.unified, legacy) {
            (Some(_), false) => CgroupMode::Unified,
            (Some(_), true) => CgroupMode::Hybrid,
            (None, _) => CgroupMode::Legacy,
        }
    }
}

struct Mount<'a> {
    point: &'a str,
    kind: &'a str,
    super_options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (own, super_block) = line.split_once(" - ")?;
        let mut of_super_block = super_block.split(' ');
        Some(Self {
            point: own.split(' ').nth(4)?,
            kind: of_super_block.next()?,
            super_options: of_super_block.nth(1)?,
        })
    }
}

/// Undoes the octal escapes of blanks, tabs, newlines and backslashes.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escape, plain)| {
        text.replace(escape, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
90 31 0:32 / /other/memory rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn a_hybrid_node_has_a_place_for_each_controller() {
        let found = Hierarchies::parse(HYBRID);
        assert_eq!(found.mode(), CgroupMode::Hybrid);
        assert_eq!(
            found.legacy("cpuacct"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct"))
        );
        assert_eq!(
            found.legacy("memory"),
            Some(Path::new("/sys/fs/cgroup/memory"))
        );
        assert_eq!(found.legacy("name=systemd"), None);
        assert_eq!(found.roots().count(), 4);
        assert_eq!(found.controlled().count(), 3);
    }

    #[test]
    fn a_node_with_systemd_and_v2_alone_is_unified() {
        let found = Hierarchies::parse(
            "25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,memory_recursiveprot\n",
        );
        assert_eq!(found.mode(), CgroupMode::Unified);
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn v1_alone_is_legacy_and_blanks_in_paths_survive() {
        let found = Hierarchies::parse("1 2 0:1 / /my\\040cgroup/pids rw - cgroup none rw,pids\n");
        assert_eq!(found.mode(), CgroupMode::Legacy);
        assert_eq!(found.legacy("pids"), Some(Path::new("/my cgroup/pids")));
    }
}
