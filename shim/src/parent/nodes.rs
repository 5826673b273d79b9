//! Device nodes for a container in a user namespace, where nobody may make one: made out here, in
//! a file system of their own, from where the init binds each to its place.
//!
//! Invariant: each has the numbers of the host for the owner that was asked for inside.

use crate::api::{Failure, FailureKind, IdMaps};
use crate::failure::At;
use crate::filesystem;
use crate::plan::Step;
use crate::plan::devices::DeviceNode;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Gid, Mode, Uid, chownat, mknodat};
use rustix::mount::MountAttrFlags as Attr;

/// Makes the nodes of a plan: each is named by its place among them.
///
/// # Errors
/// [`FailureKind::User`] for an owner whom the namespace does not have; else what the kernel says.
pub fn make(steps: &[Step<'_>], ids: &IdMaps) -> Result<OwnedFd, Failure> {
    let attributes = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC;
    let nodes = filesystem::make("tmpfs", "devices", &[("mode", Some("755"))], attributes)?;
    let devices = steps.iter().filter_map(|step| match step {
        Step::Device(device) => Some(device),
        _ => None,
    });
    for (number, device) in devices.enumerate() {
        make_one(&nodes, number, device, ids)?;
    }
    Ok(nodes)
}

fn make_one(
    nodes: &OwnedFd,
    number: usize,
    device: &DeviceNode<'_>,
    ids: &IdMaps,
) -> Result<(), Failure> {
    let step = || format!("make the device {}", device.path);
    let name = number.to_string();
    let (uid, gid) = (ids.user(device.uid)?, ids.group(device.gid)?);
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let mode = Mode::from_raw_mode(device.mode);
    mknodat(nodes, &*name, device.kind, mode, device.number).at(FailureKind::System, step)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(nodes, &*name, Some(uid), Some(gid), flags).at(FailureKind::System, step)
}
