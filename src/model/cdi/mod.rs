//! The Container Device Interface: what a vendor's file says of its devices, and what that makes of a
//! container's configuration. Source: CDI specification 1.1.0 (cncf-tags/container-device-interface,
//! SPEC.md) and the order in which its Go library applies edits.
//!
//! The crate `container-device-interface` was looked at and not taken: it checks files with a JSON
//! schema library (which brings an HTTP client), keeps one cache for the process, and its errors do not
//! name the file.
//!
//! Invariant: pure, so devices were looked up on the node by the caller; a field that is not known is
//! an error and nothing is passed over.

mod apply;
mod name;

pub use apply::apply;
pub use name::{DeviceName, asked};

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Versions of the specification that files may be of.
const VERSIONS: [&str; 10] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

/// Why a file cannot be used. The file is named by who read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is of another version.
    #[error("cdiVersion {0:?} is not one of 0.1.0 to 1.1.0")]
    Version(String),
    /// Its kind is no `vendor/class`.
    #[error("kind {0:?} is no VENDOR/CLASS")]
    Kind(String),
    /// A device has no proper name.
    #[error("devices: {0:?} is no name for a device")]
    Name(String),
    /// Two devices have the same name.
    #[error("devices: {0:?} is there twice")]
    Twice(String),
    /// There is nothing in it.
    #[error("devices: there are none")]
    NoDevices,
    /// A device changes nothing.
    #[error("device {0:?} has no containerEdits")]
    NoEdits(String),
    /// Something in a device's edits cannot be.
    #[error("{0}")]
    Edits(String),
}

/// A vendor's file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VendorSpec {
    cdi_version: String,
    /// `vendor.com/class`.
    pub kind: String,
    /// For people.
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Device {
    name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    container_edits: ContainerEdits,
}

/// What is changed in a container's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerEdits {
    /// `NAME=VALUE`; takes the place of what has the same name.
    pub env: Vec<String>,
    /// Nodes, with what the caller has found out of them.
    pub device_nodes: Vec<DeviceNode>,
    /// Links of the node that become the container's.
    pub net_devices: Vec<NetDevice>,
    /// Mounts; one takes the place of another at the same path.
    pub mounts: Vec<Mount>,
    /// Programs that run at points of the container's life.
    pub hooks: Vec<Hook>,
    /// Cache and memory bandwidth.
    pub intel_rdt: Option<IntelRdt>,
    /// Groups of its process.
    pub additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    /// In the container, and on the node where `host_path` does not say otherwise.
    pub path: String,
    /// On the node.
    pub host_path: Option<String>,
    /// `b`, `c`, `u` or `p`; found out where it is absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Found out where it is absent.
    pub major: Option<i64>,
    /// Found out where `major` is absent.
    pub minor: Option<i64>,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Some of `r`, `w` and `m`; all where it is absent.
    pub permissions: Option<String>,
    /// Its owner; the container's user where it is absent.
    pub uid: Option<u32>,
    /// Its group; the container user's where it is absent.
    pub gid: Option<u32>,
}

impl DeviceNode {
    /// Where it is on the node.
    #[must_use]
    pub fn on_node(&self) -> &str {
        self.host_path.as_deref().unwrap_or(&self.path)
    }

    /// Whether the file says all that is needed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self.kind.as_deref() {
            Some("p") => true,
            Some(_) => self.major.is_some(),
            None => false,
        }
    }
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetDevice {
    host_interface_name: String,
    name: String,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    host_path: String,
    container_path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    options: Vec<String>,
}

/// A hook of the OCI runtime specification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    hook_name: String,
    path: String,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    timeout: Option<i64>,
}

/// A class of Intel's Resource Director.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    clos_id: Option<String>,
    l3_cache_schema: Option<String>,
    mem_bw_schema: Option<String>,
    schemata: Option<Vec<String>>,
    enable_monitoring: Option<bool>,
    #[serde(rename = "enableCMT")]
    enable_cmt: Option<bool>,
    #[serde(rename = "enableMBM")]
    enable_mbm: Option<bool>,
}

impl VendorSpec {
    /// Whether it can be used.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), Flaw> {
        if !VERSIONS.contains(&self.cdi_version.as_str()) {
            return Err(Flaw::Version(self.cdi_version.clone()));
        }
        if !name::is_kind(&self.kind) {
            return Err(Flaw::Kind(self.kind.clone()));
        }
        if self.devices.is_empty() {
            return Err(Flaw::NoDevices);
        }
        let mut seen = BTreeSet::new();
        for device in &self.devices {
            if !name::is_device(&device.name) {
                return Err(Flaw::Name(device.name.clone()));
            }
            if !seen.insert(&device.name) {
                return Err(Flaw::Twice(device.name.clone()));
            }
            if device.container_edits == ContainerEdits::default() {
                return Err(Flaw::NoEdits(device.name.clone()));
            }
            device.container_edits.check()?;
        }
        self.container_edits.check()
    }

    /// The edits of one of its devices.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&ContainerEdits> {
        let found = self.devices.iter().find(|device| device.name == name);
        found.map(|device| &device.container_edits)
    }

    /// The edits for any of its devices, made once.
    #[must_use]
    pub fn common(&self) -> &ContainerEdits {
        &self.container_edits
    }

    /// What its devices are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| device.name.as_str())
    }
}

impl ContainerEdits {
    fn check(&self) -> Result<(), Flaw> {
        let wrong = |what: String| Err(Flaw::Edits(what));
        if let Some(env) = self.env.iter().find(|env| !env.contains('=')) {
            return wrong(format!("env: {env:?} is no NAME=VALUE"));
        }
        for node in &self.device_nodes {
            if !node.path.starts_with('/') {
                return wrong(format!("deviceNodes: path {:?} is not absolute", node.path));
            }
            if let Some(kind) = &node.kind
                && !matches!(kind.as_str(), "b" | "c" | "u" | "p")
            {
                return wrong(format!(
                    "deviceNodes: {}: type {kind:?} is none of b, c, u, p",
                    node.path
                ));
            }
            if let Some(given) = &node.permissions
                && !given.chars().all(|one| "rwm".contains(one))
            {
                return wrong(format!(
                    "deviceNodes: {}: permissions {given:?} must be some of r, w, m",
                    node.path
                ));
            }
        }
        for mount in &self.mounts {
            if mount.host_path.is_empty() || !mount.container_path.starts_with('/') {
                let Mount {
                    host_path,
                    container_path,
                    ..
                } = mount;
                return wrong(format!(
                    "mounts: {host_path:?} at {container_path:?} needs a hostPath and an absolute containerPath"
                ));
            }
        }
        if let Some(hook) = self
            .hooks
            .iter()
            .find(|hook| !apply::is_moment(&hook.hook_name))
        {
            return wrong(format!("hooks: {:?} is no hookName", hook.hook_name));
        }
        if let Some(hook) = self.hooks.iter().find(|hook| !hook.path.starts_with('/')) {
            return wrong(format!("hooks: path {:?} is not absolute", hook.path));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
