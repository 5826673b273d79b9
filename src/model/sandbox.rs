//! A pod sandbox: its configuration, its record on disk and its life.
//!
//! ```text
//! (claim) → Creating ──namespaces pinned, network added──▶ Ready ──stop──▶ NotReady ──remove──▶ (gone)
//!               └──failure, or a kill: undone by recovery──────────────────────────────────────▶ (gone)
//! what it holds:  Held ────────────stop──────────▶ Wanted ──remove──▶ Removed ──all given back──▶ (gone)
//! ```

use super::pod_cgroup::Scope;
use super::resources::Resources;
use crate::id::SandboxId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// What identifies a pod sandbox to the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodMetadata {
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// How often the sandbox was made anew.
    pub attempt: u32,
}

/// Whose namespace a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// The pod's (the protocol's default).
    #[default]
    Pod,
    /// The container's own.
    Container,
    /// The node's.
    Node,
    /// That of another container (PID only).
    Target,
}

/// The namespaces that a pod or container asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    /// Network: `Pod` or `Node`.
    pub network: NamespaceMode,
    /// PID: any.
    pub pid: NamespaceMode,
    /// IPC: `Pod` or `Node`.
    pub ipc: NamespaceMode,
    /// The container whose PID namespace `Target` means.
    pub target_id: String,
    /// The user namespace: `None` means the node's.
    pub user: Option<UserNamespace>,
}

/// A pod's own user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// The user ids.
    pub uids: Vec<IdMapping>,
    /// The group ids.
    pub gids: Vec<IdMapping>,
}

/// A range of ids and what it is on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id in the container.
    pub container_id: u32,
    /// The first id on the node.
    pub host_id: u32,
    /// How many.
    pub length: u32,
}

/// A seccomp or AppArmor profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// The runtime's own.
    RuntimeDefault,
    /// None.
    #[default]
    Unconfined,
    /// A file's path (seccomp) or a loaded profile's name (AppArmor).
    Localhost(String),
}

/// An SELinux context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelinuxContext {
    /// The user part.
    pub user: String,
    /// The role part.
    pub role: String,
    /// The type part.
    pub kind: String,
    /// The level part.
    pub level: String,
}

/// How supplementary groups of the image's `/etc/group` count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// Those of the image and those asked for.
    #[default]
    Merge,
    /// Only those asked for.
    Strict,
}

/// What a pod asks for in security.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSecurity {
    /// Namespaces.
    pub namespaces: NamespaceOptions,
    /// SELinux.
    pub selinux: Option<SelinuxContext>,
    /// The user of the sandbox's own process; kept and told, for there is no such process here.
    pub run_as_user: Option<i64>,
    /// Its group.
    pub run_as_group: Option<i64>,
    /// The sandbox's root file system is read-only (it has none here).
    pub readonly_rootfs: bool,
    /// Supplementary groups.
    pub supplemental_groups: Vec<i64>,
    /// How the image's groups count.
    pub groups_policy: GroupsPolicy,
    /// Privileged containers may be in this pod.
    pub privileged: bool,
    /// The pod's seccomp profile.
    pub seccomp: Profile,
    /// The pod's AppArmor profile.
    pub apparmor: Option<Profile>,
}

/// What the pod's `/etc/resolv.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// The transport protocol of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the node that leads to the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The pod's port.
    pub container_port: u16,
    /// The node's port; 0: none is mapped.
    pub host_port: u16,
    /// The node's address; empty: all.
    pub host_ip: String,
}

/// A pod sandbox as the kubelet asks for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// Who it is.
    pub metadata: PodMetadata,
    /// The host name; empty with the node's network.
    pub hostname: String,
    /// Where its containers' logs go; empty: nowhere.
    pub log_directory: String,
    /// Name resolution; `None`: the node's.
    pub dns: Option<DnsConfig>,
    /// Ports of the node.
    pub port_mappings: Vec<PortMapping>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The pod's cgroup, in the form of the driver; empty: the runtime's own place.
    pub cgroup_parent: String,
    /// Sysctls.
    pub sysctls: BTreeMap<String, String>,
    /// Security.
    pub security: SandboxSecurity,
    /// What the pod's sandbox itself may cost.
    pub overhead: Option<Resources>,
    /// What the pod's containers may use together.
    pub resources: Option<Resources>,
}

impl SandboxConfig {
    /// The key under which a second request means the same sandbox.
    #[must_use]
    pub fn key(&self) -> (String, String, u32) {
        let pod = &self.metadata;
        let name = format!("{}/{}", pod.namespace, pod.name);
        (pod.uid.clone(), name, pod.attempt)
    }
}

/// Where a pod's namespaces are pinned, and the process that holds a shared PID namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// The user namespace, which then owns all the others; `None`: the node's.
    pub user: Option<PathBuf>,
    /// The network namespace; `None`: the node's.
    pub network: Option<PathBuf>,
    /// The IPC namespace; `None`: the node's.
    pub ipc: Option<PathBuf>,
    /// The UTS namespace; `None`: the node's.
    pub uts: Option<PathBuf>,
    /// The PID namespace that containers share; `None`: none is shared.
    pub pid: Option<PathBuf>,
    /// The pod's `/dev/shm`; `None`: the node's.
    pub shm: Option<PathBuf>,
    /// The pid and start time, in clock ticks since boot, of the process that holds the PID namespace
    /// or the pod's scope.
    pub holder: Option<(i32, u64)>,
}

/// What was asked of CNI for a pod: kept, so that DEL can be asked with the very same words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkIntent {
    /// The conflist's own text.
    pub conflist: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// Capability arguments: name and JSON.
    pub capabilities: BTreeMap<String, serde_json::Value>,
}

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// It is being made; after a restart it is undone.
    Creating,
    /// Containers can be made in it.
    Ready,
    /// It was stopped, or a new boot ended it.
    NotReady,
}

/// Whether what a sandbox holds (network, namespaces) is to be given back. It only moves on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Release {
    /// Nobody asked for it.
    #[default]
    Held,
    /// The pod was stopped: it is given back, or was.
    Wanted,
    /// The pod was removed, and nobody knows of it any more: its record goes with the last of it.
    Removed,
}

/// A sandbox's record on disk: all that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Its name.
    pub id: SandboxId,
    /// What was asked for.
    pub config: SandboxConfig,
    /// The runtime handler; empty: the default.
    pub handler: String,
    /// Where it is in its life.
    pub state: SandboxState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The boot it was made in (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// What was asked of CNI; `None`: nothing, or it was taken back.
    pub network: Option<NetworkIntent>,
    /// Whether that and its namespaces are to be given back.
    #[serde(default)]
    pub release: Release,
    /// Its addresses, the first one first.
    pub ips: Vec<IpAddr>,
    /// The scope that systemd made for it; `None`: its cgroup is as the driver `cgroupfs` has it, or
    /// the scope was given back.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// The SELinux level of its containers unless they name one; `None`: SELinux is off.
    #[serde(default)]
    pub selinux_level: Option<String>,
}

impl Sandbox {
    /// The sysctls of its namespaces: those asked for, and what images expect of a network that is
    /// nobody else's: any user may listen on any port, and ping. (A user namespace does not have all
    /// the groups that ping's range names.)
    #[must_use]
    pub fn sysctls(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut set = |name: &str, value: &str| all.insert(name.to_owned(), value.to_owned());
        if self.namespaces.network.is_some() {
            set("net.ipv4.ip_unprivileged_port_start", "0");
            if self.namespaces.user.is_none() {
                set("net.ipv4.ping_group_range", "0 2147483647");
            }
        }
        all.extend(self.config.sysctls.clone());
        all
    }
}

/// Which sandboxes a list is to hold; what is empty asks for nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SandboxFilter {
    /// The id or the beginning of it.
    pub id: String,
    /// Ready, or not.
    pub ready: Option<bool>,
    /// Labels that it must have.
    pub labels: BTreeMap<String, String>,
}

impl SandboxFilter {
    /// The sandbox is one of those asked for.
    #[must_use]
    pub fn matches(&self, sandbox: &Sandbox) -> bool {
        sandbox.id.as_str().starts_with(&self.id)
            && self
                .ready
                .is_none_or(|ready| ready == (sandbox.state == SandboxState::Ready))
            && has_labels(&sandbox.config.labels, &self.labels)
    }
}

/// `have` holds every pair of `want`.
#[must_use]
pub fn has_labels(have: &BTreeMap<String, String>, want: &BTreeMap<String, String>) -> bool {
    want.iter().all(|(key, value)| have.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_network_of_its_own_is_open_to_every_user_unless_the_pod_says_otherwise() {
        let mut pod = crate::model::spec::tests::sandbox();
        pod.namespaces.network = Some("/run/netns/a".into());
        let port = "net.ipv4.ip_unprivileged_port_start";
        assert_eq!(pod.sysctls()[port], "0");
        assert_eq!(pod.sysctls().len(), 2);
        pod.config.sysctls.insert(port.into(), "1024".into());
        assert_eq!(pod.sysctls()[port], "1024");
        pod.namespaces.user = Some("/run/ns/user".into());
        assert_eq!(pod.sysctls().len(), 1, "not all groups are in there");
        pod.namespaces.network = None;
        pod.config.sysctls.clear();
        assert!(pod.sysctls().is_empty(), "the node's network");
    }
}
