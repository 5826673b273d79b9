//! A container: its configuration, its record on disk and its life.
//!
//! ```text
//! (claim) → Creating ──bundle, shim──▶ Created ──start──▶ Running ──end──▶ Exited ──remove──▶ (gone)
//!               │                          └──start fails (128), or a kill──────▲
//!               └──failure: undone─────────────────────────────────────────────────────────▶ (gone)
//! ```

use super::health::Healthcheck;
use super::resources::Resources;
use super::sandbox::{
    GroupsPolicy, IdMapping, NamespaceOptions, Profile, SelinuxContext, has_labels,
};
use crate::id::{ContainerId, ImageId, SandboxId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What identifies a container within its pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// Its name.
    pub name: String,
    /// How often it was made anew.
    pub attempt: u32,
}

/// How mounts travel between the node and a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the node into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// An image whose content a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountedImage {
    /// The image, as the kubelet names it after the pull (an id or a reference).
    pub image: String,
    /// The image, as the user wrote it.
    pub user_specified_image: String,
    /// Hints of the caller, given back.
    pub annotations: BTreeMap<String, String>,
    /// The runtime handler that it is for; empty: the default.
    pub handler: String,
}

/// A path of the node or an image that a container sees.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// The path in the container.
    pub container_path: String,
    /// The path on the node; empty for an image.
    pub host_path: String,
    /// It cannot be written.
    pub readonly: bool,
    /// Nor can the mounts below it.
    pub recursive_readonly: bool,
    /// It is to be relabelled for SELinux.
    pub selinux_relabel: bool,
    /// How mounts travel.
    pub propagation: Propagation,
    /// Id mappings of the volume.
    pub uid_mappings: Vec<IdMapping>,
    /// Id mappings of the volume.
    pub gid_mappings: Vec<IdMapping>,
    /// The image whose content it is; `None`: `host_path` counts.
    pub image: Option<MountedImage>,
    /// The path within the image. Without one it means nothing: the kubelet gives each mount of a
    /// pod with image volumes the path that it has resolved already.
    pub image_sub_path: String,
    /// More options of a bind: `noexec`, `nodev`, `nosuid`.
    pub options: Vec<String>,
}

/// A device of the node that a container gets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// The path in the container.
    pub container_path: String,
    /// The path on the node.
    pub host_path: String,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// Capabilities to add to or take from the default, by name without `CAP_`, or `ALL`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Capabilities {
    /// To add.
    pub add: Vec<String>,
    /// To take away.
    pub drop: Vec<String>,
    /// To add to the ambient set as well.
    pub add_ambient: Vec<String>,
}

/// Who a container's processes are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserSpec {
    /// As the image says.
    #[default]
    Image,
    /// This uid.
    Uid(i64),
    /// This name, to be found in the image.
    Name(String),
}

/// What a container asks for in security.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSecurity {
    /// Capabilities.
    pub capabilities: Capabilities,
    /// All devices, all capabilities, no profile.
    pub privileged: bool,
    /// Namespaces.
    pub namespaces: NamespaceOptions,
    /// SELinux.
    pub selinux: Option<SelinuxContext>,
    /// The user.
    pub user: UserSpec,
    /// The group; only with a user.
    pub run_as_group: Option<i64>,
    /// The root file system is read-only.
    pub readonly_rootfs: bool,
    /// More groups.
    pub supplemental_groups: Vec<i64>,
    /// How the image's groups count.
    pub groups_policy: GroupsPolicy,
    /// `no_new_privs` is set.
    pub no_new_privs: bool,
    /// Paths that cannot be seen.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// The seccomp profile.
    pub seccomp: Profile,
    /// The AppArmor profile; `None`: the default where AppArmor is on.
    pub apparmor: Option<Profile>,
}

/// A container as the kubelet asks for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Who it is.
    pub metadata: ContainerMetadata,
    /// The image, as the kubelet names it after the pull (an id or a reference).
    pub image: String,
    /// The image, as the user wrote it.
    pub user_specified_image: String,
    /// Hints about the image, given back.
    pub image_annotations: BTreeMap<String, String>,
    /// The runtime handler that the image is for; empty: the default.
    pub image_handler: String,
    /// In place of the image's entrypoint.
    pub command: Vec<String>,
    /// In place of the image's arguments.
    pub args: Vec<String>,
    /// In place of the image's working directory.
    pub working_dir: String,
    /// More environment, after the image's.
    pub envs: Vec<(String, String)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Fully qualified CDI device names.
    pub cdi_devices: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The log, relative to the pod's log directory; empty: none.
    pub log_path: String,
    /// Its stdin stays open.
    pub stdin: bool,
    /// Its stdin is closed when the first client has gone.
    pub stdin_once: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Security.
    pub security: ContainerSecurity,
    /// The signal that asks it to end, as a number; `None`: the image's, or SIGTERM.
    pub stop_signal: Option<i32>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    /// It is being made; after a restart it is undone.
    Creating,
    /// Its init waits for Start.
    Created,
    /// Its program runs.
    Running,
    /// It has ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The code; 128 + the signal's number where a signal ended it; 255 where nobody saw it.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `Unknown`.
    pub reason: String,
    /// More, for a person.
    pub message: String,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
}

/// Who a container's first process is, as found in the image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// A container's record on disk: all that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub id: ContainerId,
    /// Its pod.
    pub sandbox_id: SandboxId,
    /// What was asked for.
    pub config: ContainerConfig,
    /// The image that it runs.
    pub image_id: ImageId,
    /// That image's name with a digest, by which others find it as well; its id where it has none.
    #[serde(default)]
    pub image_ref: String,
    /// The images that it sees, each by the place of its mount in the configuration.
    #[serde(default)]
    pub image_volumes: BTreeMap<usize, ImageId>,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Nanoseconds since the epoch; 0: never.
    pub started_at: i64,
    /// The boot it was made in.
    pub boot_id: String,
    /// Its init's pid; 0: none was made.
    pub pid: i32,
    /// Its init's start time in clock ticks since boot.
    pub start_time: u64,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// Its cgroup, as a path below each hierarchy's root.
    pub cgroup: String,
    /// Its log's absolute path; `None`: it has none.
    pub log_path: Option<PathBuf>,
    /// Its first process's user, once it is known.
    pub user: Option<ResolvedUser>,
    /// What its health is checked with; `None`: it is not.
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// The limits in force: those of the configuration, or of the last update.
    pub resources: Resources,
}

impl Container {
    /// It has ended.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        matches!(self.state, ContainerState::Exited(_))
    }

    /// The images whose layers it needs: that which it runs, and those that it sees.
    pub fn images(&self) -> impl Iterator<Item = &ImageId> {
        std::iter::once(&self.image_id).chain(self.image_volumes.values())
    }

    /// The key under which a second request in the same pod means the same container.
    #[must_use]
    pub fn key(&self) -> (SandboxId, String, u32) {
        let who = &self.config.metadata;
        (self.sandbox_id.clone(), who.name.clone(), who.attempt)
    }
}

/// A container's state as a list asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// Made, not started.
    Created,
    /// Its program runs.
    Running,
    /// It has ended.
    Exited,
    /// None of these.
    Unknown,
}

/// Which containers a list is to hold; what is empty asks for nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerFilter {
    /// The id or the beginning of it.
    pub id: String,
    /// The pod's id or the beginning of it.
    pub sandbox_id: String,
    /// The state.
    pub state: Option<StateFilter>,
    /// Labels that it must have.
    pub labels: BTreeMap<String, String>,
}

impl ContainerFilter {
    /// The container is one of those asked for.
    #[must_use]
    pub fn matches(&self, container: &Container) -> bool {
        container.id.as_str().starts_with(&self.id)
            && container.sandbox_id.as_str().starts_with(&self.sandbox_id)
            && self
                .state
                .is_none_or(|state| state == StateFilter::of(&container.state))
            && has_labels(&container.config.labels, &self.labels)
    }
}

impl StateFilter {
    fn of(state: &ContainerState) -> Self {
        match state {
            ContainerState::Creating => Self::Unknown,
            ContainerState::Created => Self::Created,
            ContainerState::Running => Self::Running,
            ContainerState::Exited(_) => Self::Exited,
        }
    }
}
