//! New instances of file systems, and clones of mount trees: detached until someone moves them.
//!
//! Invariant: what a file system says about an option that it refuses is part of the failure.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::sys::mount::{Depth, MountAttr, set_attr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// An option of a file system: its key, and its value unless it is a flag.
pub type Datum<'a> = (&'a str, Option<&'a str>);

/// Makes a file system and a detached mount of it.
///
/// # Errors
/// [`FailureKind::Mount`], with what the file system itself had to say.
pub fn make(
    kind: &str,
    source: &str,
    data: &[Datum<'_>],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let step = || format!("make a file system of type {kind}");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).at(FailureKind::Mount, step)?;
    let explain = |failure: Failure| match log(&context) {
        Some(said) => failure.because(said),
        None => failure,
    };
    fsconfig_set_string(&context, "source", source)
        .at(FailureKind::Mount, step)
        .map_err(explain)?;
    for (key, value) in data {
        let option = || format!("set the option {key} of a {kind} mount");
        set(&context, key, *value)
            .at(FailureKind::Mount, option)
            .map_err(explain)?;
    }
    fsconfig_create(&context)
        .at(FailureKind::Mount, step)
        .map_err(explain)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .at(FailureKind::Mount, step)
        .map_err(explain)
}

fn set(context: &OwnedFd, key: &str, value: Option<&str>) -> Result<(), Errno> {
    match value {
        Some(value) => fsconfig_set_string(context, key, value),
        None => fsconfig_set_flag(context, key),
    }
}

/// The newest message that the file system left for whoever configures it.
fn log(context: &OwnedFd) -> Option<String> {
    let mut line = [0; 512];
    let mut last = None;
    while let Ok(length @ 1..) = rustix::io::read(context, &mut line) {
        let said = String::from_utf8_lossy(&line[..length]);
        // Each line begins with its severity: `e`, `w` or `i`, and a space.
        last = Some(said.get(2..).unwrap_or(&said).trim_end().to_owned());
    }
    last
}

/// Clones the mount at a path of the host, or the tree that begins there.
///
/// # Errors
/// What `open_tree` says.
pub fn clone_path(path: &str, depth: Depth) -> Result<OwnedFd, Errno> {
    open_tree(CWD, path, clone_flags(depth))
}

/// Clones what a descriptor names.
///
/// # Errors
/// What `open_tree` says.
pub fn clone_of(fd: impl AsFd, depth: Depth) -> Result<OwnedFd, Errno> {
    open_tree(fd, c"", clone_flags(depth) | OpenTreeFlags::AT_EMPTY_PATH)
}

fn clone_flags(depth: Depth) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match depth {
        Depth::Top => flags,
        Depth::Recursive => flags | OpenTreeFlags::AT_RECURSIVE,
    }
}

/// Attaches a detached mount at what the destination descriptor names.
///
/// # Errors
/// What `move_mount` says.
pub fn attach(mount: impl AsFd, destination: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", destination, c"", flags)
}

/// Makes a mount read-only.
///
/// # Errors
/// What `mount_setattr` says.
pub fn read_only(mount: impl AsFd, depth: Depth) -> Result<(), Errno> {
    let attr = MountAttr {
        set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
        ..MountAttr::default()
    };
    set_attr(mount, depth, &attr)
}
