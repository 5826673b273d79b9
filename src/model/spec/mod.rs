//! From what the kubelet asks for, what the image says and what the node can, to the OCI runtime
//! configuration that a shim, or any other runtime, makes a container from.
//!
//! ```text
//! Sandbox ─────────┐
//! ContainerConfig ─┤  identity  arguments  user  capabilities  limits
//! ImageConfig ─────┼─ namespaces  mounts  devices  resources  seccomp  labels ─▶ config.json
//! HostFacts ───────┤
//! resolved paths ──┘
//! ```
//!
//! Invariants: pure, so a path or a device was resolved by the caller; a container gets less than
//! was asked for only where the node cannot give it (bounding set, open files), never more; what
//! cannot be honoured is an error that names its field.

mod annotations;
mod arguments;
pub mod capabilities;
mod devices;
mod labels;
mod limits;
mod mounts;
mod namespaces;
mod resources;
pub mod seccomp;
mod user;
mod visible;
mod volumes;

#[cfg(test)]
pub(super) mod tests;

pub use annotations::GROUPS_POLICY;
pub use devices::{DeviceKind, ResolvedDevice};
pub use labels::APPARMOR_DEFAULT;
pub use resources::limits as linux_resources;

use super::container::ContainerConfig;
use super::host::{CgroupMode, HostFacts};
use super::image::ImageConfig;
use super::sandbox::Sandbox;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use oci_spec::runtime::{Linux, Process, Root, Spec};
use std::path::PathBuf;

/// All that a container's configuration depends on.
#[derive(Debug, Clone, Copy)]
pub struct SpecInputs<'a> {
    /// Its pod.
    pub sandbox: &'a Sandbox,
    /// Its name.
    pub container_id: &'a ContainerId,
    /// What was asked for.
    pub config: &'a ContainerConfig,
    /// What its image says.
    pub image: &'a ImageConfig,
    /// One for each of `config.mounts`, in the same order.
    pub mounts: &'a [ResolvedMount],
    /// Those of `config.devices`; for a privileged container all of the node's as well.
    pub devices: &'a [ResolvedDevice],
    /// The pod's generated files.
    pub files: &'a PodFiles,
    /// The pod's host name: its own, or the node's.
    pub hostname: &'a str,
    /// What the node can.
    pub host: &'a HostFacts,
    /// The init of the container whose PID namespace is to be shared, where one was named.
    pub target_pid: Option<i32>,
    /// The text of the seccomp profile's file, where one was named.
    pub seccomp_profile: Option<&'a str>,
}

/// A mount's source, with symbolic links followed and, where it was absent, made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedMount {
    /// The path on the node.
    pub host_path: PathBuf,
}

/// The files that all containers of a pod see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFiles {
    /// For `/etc/hosts`.
    pub hosts: PathBuf,
    /// For `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// For `/etc/hostname`.
    pub hostname: PathBuf,
}

/// The runtime configuration of a container (`config.json`, OCI runtime specification 1.2).
///
/// # Errors
/// `InvalidArgument` with the field's name for what cannot be right, `FailedPrecondition` and
/// `Unimplemented` for what this node or build cannot do, and the sentinel `RROUnsupported`.
pub fn build(inputs: &SpecInputs<'_>) -> Result<Spec> {
    check(inputs)?;
    let granted = capabilities::granted(&inputs.config.security, inputs.host)?;
    let mut root = Root::default();
    root.set_path("rootfs".into());
    root.set_readonly(Some(inputs.config.security.readonly_rootfs));
    let mut spec = Spec::default();
    spec.set_version("1.2.0".into())
        .set_hostname(None)
        .set_root(Some(root))
        .set_process(Some(process(inputs, &granted)?))
        .set_mounts(Some(mounts::all(inputs)?))
        .set_annotations(Some(annotations::all(inputs)))
        .set_linux(Some(linux(inputs, &granted)?));
    Ok(spec)
}

/// The path of a container's cgroup below every hierarchy's root; it ends in the container's id. It is
/// in the pod's scope where systemd made one. Else a pod without a cgroup of its own gets one below
/// `/corten/pods`.
///
/// # Errors
/// `InvalidArgument` where the pod's `cgroup_parent` could lead elsewhere.
pub fn cgroup_path(sandbox: &Sandbox, id: &ContainerId) -> Result<String> {
    let given = sandbox.config.cgroup_parent.trim_matches('/');
    if given.split('/').any(|part| matches!(part, "." | "..")) || given.contains('\0') {
        return Err(Error::invalid(format!(
            "linux.cgroup_parent {given:?} must not contain . or .."
        )));
    }
    Ok(match (own_cgroup(sandbox), &sandbox.scope) {
        (Some(own), _) => format!("{own}/{id}"),
        (None, Some(scope)) => format!("{}/{id}", scope.cgroup),
        (None, None) => format!("/{given}/{id}"),
    })
}

/// The cgroup that a pod without one of the kubelet's gets, and whose limits are Corten's to set; it is
/// made with the first container and goes with the sandbox. In a scope it is below the scope itself, whose
/// limits are systemd's: a `daemon-reload` writes them anew.
#[must_use]
pub fn own_cgroup(sandbox: &Sandbox) -> Option<String> {
    let given = sandbox.config.cgroup_parent.trim_matches('/');
    given.is_empty().then(|| match &sandbox.scope {
        Some(scope) => format!("{}/pod", scope.cgroup),
        None => format!("/corten/pods/{}", sandbox.id),
    })
}

fn check(inputs: &SpecInputs<'_>) -> Result<()> {
    if inputs.mounts.len() != inputs.config.mounts.len() {
        return Err(Error::internal("not every mount was resolved"));
    }
    let (pod, config) = (&inputs.sandbox.config.security, inputs.config);
    if config.security.namespaces.user != pod.namespaces.user {
        return Err(Error::invalid(
            "namespace_options.userns_options: a container has its pod's user namespace, so it must be asked for with the same mode and ids",
        ));
    }
    if config.security.privileged && !pod.privileged {
        return Err(Error::precondition(
            "security_context.privileged: the pod was not made for privileged containers",
        ));
    }
    Ok(())
}

fn process(inputs: &SpecInputs<'_>, granted: &capabilities::Granted) -> Result<Process> {
    let security = &inputs.config.security;
    let mut process = Process::default();
    process
        .set_terminal(Some(inputs.config.tty))
        .set_args(Some(arguments::args(inputs)?))
        .set_env(Some(arguments::env(inputs)?))
        .set_cwd(arguments::working_dir(inputs)?)
        .set_user(user::user(inputs)?)
        .set_capabilities(Some(granted.to_oci()))
        .set_rlimits(Some(limits::rlimits(inputs.host)))
        .set_oom_score_adj(Some(limits::oom_score_adj(&inputs.config.resources)?))
        .set_no_new_privileges(Some(security.no_new_privs))
        .set_apparmor_profile(labels::apparmor(security, inputs.host)?)
        .set_selinux_label(labels::selinux_process(inputs));
    Ok(process)
}

fn linux(inputs: &SpecInputs<'_>, granted: &capabilities::Granted) -> Result<Linux> {
    let security = &inputs.config.security;
    let mut resources = resources::limits(&inputs.config.resources, inputs.host)?;
    resources.set_devices(Some(devices::rules(inputs)?));
    let mut linux = Linux::default();
    if let Some(user) = &security.namespaces.user {
        linux
            .set_uid_mappings(namespaces::id_mappings(&user.uids))
            .set_gid_mappings(namespaces::id_mappings(&user.gids));
    }
    linux
        .set_namespaces(Some(namespaces::all(inputs)?))
        .set_resources(Some(resources))
        .set_cgroups_path(Some(
            cgroup_path(inputs.sandbox, inputs.container_id)?.into(),
        ))
        .set_devices(Some(devices::nodes(inputs)))
        .set_seccomp(seccomp::section(inputs, granted)?)
        .set_masked_paths(Some(visible::masked(security)))
        .set_readonly_paths(Some(visible::readonly(security)))
        .set_rootfs_propagation(volumes::rootfs_propagation(&inputs.config.mounts))
        .set_mount_label(labels::selinux_mount(inputs));
    Ok(linux)
}

/// A container has a cgroup namespace of its own on version 2, unless it is privileged.
fn has_own_cgroup_namespace(inputs: &SpecInputs<'_>) -> bool {
    inputs.host.cgroups == CgroupMode::Unified && !inputs.config.security.privileged
}
