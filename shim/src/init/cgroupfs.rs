//! The container's view of the cgroup hierarchies, at `/sys/fs/cgroup`.
//!
//! On v1 that is a small tmpfs with one mount for each hierarchy; on v2 it is the one hierarchy. A
//! container with a cgroup namespace of its own sees its cgroup as the root; one without sees, on
//! v1, only its own cgroup bound there, on v2 the host's tree.

use super::mounts::destination;
use crate::api::{Failure, FailureKind};
use crate::cgroup::{Cgroup, Directory, Version};
use crate::failure::At;
use crate::filesystem::{self, Datum};
use crate::plan::mounts::CgroupView as Wanted;
use crate::root::{Root, Target};
use crate::sys::mount::{Depth, MountAttr, set_attr};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags as Attr;

/// What decides about the view.
pub struct View<'a> {
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
    /// The container has a cgroup namespace of its own.
    pub own_namespace: bool,
}

/// Mounts the view at a destination.
///
/// # Errors
/// [`FailureKind::Mount`].
pub fn mount(root: &Root, path: &str, wanted: Wanted, view: &View<'_>) -> Result<(), Failure> {
    let attributes = wanted.attributes;
    let place = destination(root, path, Target::Directory)?;
    let step = || format!("mount {path}");
    let unified = match wanted.version {
        Version::V1 => view.cgroup.pure_v2(),
        Version::V2 => view.cgroup.unified(),
    };
    if let Some(unified) = unified {
        let made = unified_mount(unified, attributes, view)?;
        return filesystem::attach(&made, &place).at(FailureKind::Mount, step);
    }
    let outer = attributes - Attr::MOUNT_ATTR_RDONLY;
    let tmpfs = filesystem::make("tmpfs", "tmpfs", &[("mode", Some("755"))], outer)?;
    filesystem::attach(&tmpfs, &place).at(FailureKind::Mount, step)?;
    for directory in view
        .cgroup
        .directories()
        .iter()
        .filter(|directory| directory.version == Version::V1)
    {
        hierarchy(&tmpfs, directory, attributes, view)?;
    }
    if attributes.contains(Attr::MOUNT_ATTR_RDONLY) {
        filesystem::read_only(&tmpfs, Depth::Top).at(FailureKind::Mount, step)?;
    }
    Ok(())
}

fn unified_mount(
    directory: &Directory,
    attributes: Attr,
    view: &View<'_>,
) -> Result<OwnedFd, Failure> {
    if view.own_namespace {
        return filesystem::make("cgroup2", "cgroup", &[], attributes);
    }
    // A new mount from the host's cgroup namespace would change options of the whole hierarchy.
    let mountpoint = directory.mountpoint.to_string_lossy();
    bind(&mountpoint, attributes)
}

fn hierarchy(
    tmpfs: &OwnedFd,
    directory: &Directory,
    attributes: Attr,
    view: &View<'_>,
) -> Result<(), Failure> {
    let name = directory.name();
    let step = || format!("mount the cgroup hierarchy {name}");
    rustix::fs::mkdirat(tmpfs, &*name, Mode::from_raw_mode(0o755)).at(FailureKind::Mount, step)?;
    let place = rustix::fs::openat(tmpfs, &*name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(FailureKind::Mount, step)?;
    let made = match view.own_namespace {
        true => filesystem::make("cgroup", "cgroup", &data(directory), attributes),
        false => bind(&directory.path.to_string_lossy(), attributes),
    }?;
    filesystem::attach(&made, &place).at(FailureKind::Mount, step)?;
    for alias in directory.aliases() {
        rustix::fs::symlinkat(&*name, tmpfs, alias).at(FailureKind::Mount, step)?;
    }
    Ok(())
}

fn data(directory: &Directory) -> Vec<Datum<'_>> {
    let controllers = directory.controllers.iter();
    controllers
        .map(|controller| match controller.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (controller.as_str(), None),
        })
        .collect()
}

fn bind(path: &str, attributes: Attr) -> Result<OwnedFd, Failure> {
    let step = || format!("bind {path}");
    let tree = filesystem::clone_path(path, Depth::Top).at(FailureKind::Mount, step)?;
    let attr = MountAttr {
        set: attributes.bits().into(),
        ..MountAttr::default()
    };
    set_attr(&tree, Depth::Top, &attr).at(FailureKind::Mount, step)?;
    Ok(tree)
}
