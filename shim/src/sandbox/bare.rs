//! A mount namespace with almost nothing in it, from which containers' inits are cloned.
//!
//! A new mount namespace is a copy of its parent's, mount by mount, and is taken down mount by mount: on a
//! node of a hundred pods that are hundreds of mounts of other pods and of volumes, under a lock that all
//! share. An init needs none of them, since its trees come to it detached: so the stage enters this
//! namespace before it clones. Here are procfs, sysfs and the cgroups, and places for a root and for devices.
//!
//! Invariant: private: what is mounted on the host later does not come here, and nothing that is mounted in a
//! copy is seen anywhere.

use crate::api::{Failure, FailureKind};
use crate::cgroup::Cgroup;
use crate::failure::At;
use crate::filesystem::{self, clone_path};
use crate::init::mounts;
use crate::sys::clone;
use crate::sys::mount::Depth;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, Mode, OFlags, access, mkdirat, open};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::path::Path;

/// Where a container's root is attached in a copy.
pub const ROOT: &str = "/root";
/// The mount namespace that one is in.
const OWN: &str = "/proc/self/ns/mnt";
/// What is cloned from the host. Of the first two only the top: who may have a procfs of its own is
/// decided by whether this one is whole.
const TREES: [(&str, Depth); 3] = [
    ("/proc", Depth::Top),
    ("/sys", Depth::Top),
    ("/sys/fs/cgroup", Depth::Recursive),
];

/// Makes it, and leaves this process in it.
///
/// # Errors
/// What the kernel says.
pub fn make() -> Result<OwnedFd, Failure> {
    let step = || "make a bare mount namespace".to_owned();
    let trees: Vec<OwnedFd> = TREES
        .iter()
        .map(|(path, depth)| clone_path(path, *depth))
        .collect::<Result<_, _>>()
        .at(FailureKind::Mount, step)?;
    // An init passes points, too.
    #[cfg(feature = "failpoints")]
    let switches = std::env::var_os("CORTEN_FAILPOINTS")
        .map(std::path::PathBuf::from)
        .and_then(|path| Some((clone_path(path.to_str()?, Depth::Top).ok()?, path)))
        .map(|(tree, path)| (path, tree));
    let root = root_directory()?;
    clone::unshare(UnshareFlags::NEWNS).at(FailureKind::Mount, step)?;
    mounts::detach_from_host()?;
    // Any place will do: it becomes the root.
    let attached = mounts::attach_root(&root, Path::new("/proc"))?;
    mounts::pivot(&attached)?;
    mounts::let_go_of_host(&attached, None)?;
    for ((path, _), tree) in TREES.iter().zip(&trees) {
        mounts::attach_root(tree, Path::new(path))?;
    }
    #[cfg(feature = "failpoints")]
    if let Some((path, switches)) = &switches {
        std::fs::create_dir_all(path).at(FailureKind::System, step)?;
        mounts::attach_root(switches, path)?;
    }
    filesystem::read_only(&root, Depth::Top).at(FailureKind::Mount, step)?;
    open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at(FailureKind::System, step)
}

/// Leaves the host's mounts behind, of which an init would get a copy each. The cgroup must be there too: a hierarchy
/// may have been mounted since, or elsewhere.
///
/// # Errors
/// What the kernel says; this process is where it was.
pub fn enter(bare: &Path, cgroup: &Cgroup) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let host = open(OWN, flags, Mode::empty())?;
    go_to(&open(bare, flags, Mode::empty())?)?;
    let mut directories = cgroup.directories().iter();
    match directories.try_for_each(|directory| access(&directory.path, Access::EXISTS)) {
        Ok(()) => Ok(()),
        Err(missing) => go_to(&host).and(Err(missing)),
    }
}

fn go_to(namespace: &OwnedFd) -> Result<(), Errno> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
}

fn root_directory() -> Result<OwnedFd, Failure> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = filesystem::make("tmpfs", "corten", &[("mode", Some("755"))], attributes)?;
    for name in ["proc", "sys", "dev", ROOT.trim_start_matches('/')] {
        mkdirat(&root, name, Mode::from_raw_mode(0o755)).at(FailureKind::Mount, || {
            format!("make the directory {name} of a bare mount namespace")
        })?;
    }
    Ok(root)
}
