//! Device nodes and the links of `/dev`.

use super::mounts::destination;
use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::filesystem;
use crate::plan::devices::DeviceNode;
use crate::root::{Root, Target};
use crate::sys::mount::Depth;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, mknodat, statat};
use rustix::io::Errno;

/// Makes one device node; one that is already there must be the same device.
///
/// The umask is 0 here, so the mode is what was asked for without a `chmod` that might follow a
/// link.
///
/// # Errors
/// [`FailureKind::System`]; [`FailureKind::Invalid`] where something else is in its place.
pub fn make(root: &Root, node: &DeviceNode<'_>) -> Result<(), Failure> {
    let step = || format!("make the device {}", node.path);
    let (parent, name) = root.parent(node.path).at(FailureKind::System, step)?;
    let mode = Mode::from_raw_mode(node.mode);
    match mknodat(&parent, &*name, node.kind, mode, node.number) {
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            chownat(
                &parent,
                &*name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .at(FailureKind::System, step)
        }
        Err(Errno::EXIST) => {
            let there =
                statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW).at(FailureKind::System, step)?;
            if FileType::from_raw_mode(there.st_mode) == node.kind && there.st_rdev == node.number {
                return Ok(());
            }
            Err(Failure::invalid(
                step(),
                "the image has something else in its place",
            ))
        }
        Err(error) => Err(error).at(FailureKind::System, step),
    }
}

/// Attaches the nodes that were made outside, over the copy of the host's `/dev` that nobody looks
/// at any more: only what is attached can be bound on every kernel.
///
/// # Errors
/// What the kernel says.
pub fn attach(nodes: &OwnedFd) -> Result<(), Failure> {
    let step = || "attach the device nodes".to_owned();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::open(c"/dev", flags, Mode::empty()).at(FailureKind::Mount, step)?;
    filesystem::attach(nodes, &place).at(FailureKind::Mount, step)
}

/// Binds one of the attached nodes to its place.
///
/// # Errors
/// [`FailureKind::Mount`].
pub fn bind(
    root: &Root,
    node: &DeviceNode<'_>,
    nodes: &OwnedFd,
    number: usize,
) -> Result<(), Failure> {
    let step = || format!("bind the device {}", node.path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(nodes, number.to_string(), flags, Mode::empty())
        .at(FailureKind::Mount, step)?;
    let tree = filesystem::clone_of(&made, Depth::Top).at(FailureKind::Mount, step)?;
    let place = destination(root, node.path, Target::File)?;
    filesystem::attach(&tree, &place).at(FailureKind::Mount, step)
}

/// Makes a symbolic link. What an image already has in its place stays, except for `/dev/ptmx`,
/// which must lead to the container's own terminals.
///
/// # Errors
/// [`FailureKind::System`].
pub fn link(root: &Root, path: &str, target: &str) -> Result<(), Failure> {
    let step = || format!("link {path}");
    let (parent, name) = root.parent(path).at(FailureKind::System, step)?;
    if path == "/dev/ptmx" {
        let _ = rustix::fs::unlinkat(&parent, &*name, AtFlags::empty());
    }
    match rustix::fs::symlinkat(target, &parent, &*name) {
        Err(Errno::EXIST) => Ok(()),
        other => other.at(FailureKind::System, step),
    }
}
