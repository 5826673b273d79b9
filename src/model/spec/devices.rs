//! Device nodes, and which devices the container's cgroup lets it use.
//!
//! Nodes like `/dev/null` are every runtime's own business; only what was asked for is listed. The
//! rules are complete: whoever applies them needs to know nothing else.

use super::SpecInputs;
use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use std::path::PathBuf;

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// A device node as the caller found it on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedDevice {
    /// Where the container sees it.
    pub container_path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

impl DeviceKind {
    fn to_oci(self) -> LinuxDeviceType {
        match self {
            Self::Character => LinuxDeviceType::C,
            Self::Block => LinuxDeviceType::B,
        }
    }
}

/// What no container can do without: null, zero, full, random, urandom, tty, ptmx and the
/// pseudo-terminals; `None` is any minor.
const ALWAYS: [(i64, Option<i64>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// The nodes to be made.
pub fn nodes(inputs: &SpecInputs<'_>) -> Vec<LinuxDevice> {
    inputs.devices.iter().map(node).collect()
}

fn node(device: &ResolvedDevice) -> LinuxDevice {
    let mut node = LinuxDevice::default();
    node.set_path(device.container_path.clone())
        .set_typ(device.kind.to_oci())
        .set_major(device.major.into())
        .set_minor(device.minor.into())
        .set_file_mode(Some(device.mode & 0o7777))
        .set_uid(Some(device.uid))
        .set_gid(Some(device.gid));
    node
}

/// Everything for a privileged container; else nothing but what is listed. Any node may be made,
/// as the field has it: making one gives no access.
pub fn rules(inputs: &SpecInputs<'_>) -> Result<Vec<LinuxDeviceCgroup>> {
    if inputs.config.security.privileged {
        return Ok(vec![rule(true, "rwm")]);
    }
    let mut rules = vec![rule(false, "rwm")];
    for kind in [LinuxDeviceType::C, LinuxDeviceType::B] {
        rules.push(of_kind(kind, None, None, "m"));
    }
    for (major, minor) in ALWAYS {
        rules.push(of_kind(LinuxDeviceType::C, Some(major), minor, "rwm"));
    }
    for device in inputs.devices {
        rules.push(of_kind(
            device.kind.to_oci(),
            Some(device.major.into()),
            Some(device.minor.into()),
            permissions(device)?,
        ));
    }
    Ok(rules)
}

fn permissions(device: &ResolvedDevice) -> Result<&str> {
    let given = device.permissions.as_str();
    match given {
        "" => Ok("rwm"),
        given if given.chars().all(|c| "rwm".contains(c)) => Ok(given),
        other => Err(Error::invalid(format!(
            "devices[{:?}].permissions {other:?} must be some of r, w, m",
            device.container_path
        ))),
    }
}

fn rule(allow: bool, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_access(Some(access.to_owned()));
    rule
}

fn of_kind(
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = rule(true, access);
    rule.set_typ(Some(kind)).set_major(major).set_minor(minor);
    rule
}
