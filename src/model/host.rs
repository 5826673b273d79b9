//! What this kernel and this node can, as the decisions of `model` need it. Probed once at start
//! by `config`.

use serde::{Deserialize, Serialize};

/// Which cgroup hierarchies the node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupMode {
    /// One v2 hierarchy.
    Unified,
    /// Controllers on v1, and a v2 tree beside them.
    Hybrid,
    /// Version 1 alone.
    Legacy,
}

/// Who makes a pod's cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupDriver {
    /// The daemon, below the pod's cgroup.
    Cgroupfs,
    /// systemd, as slices and scopes.
    Systemd,
}

/// Facts about the node that a container's spec depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The kernel's release, such as `6.18.44`.
    pub kernel: String,
    /// The machine's architecture in Go's words (`amd64`, `arm64`): how images name it.
    pub architecture: String,
    /// Which cgroup hierarchies there are.
    pub cgroups: CgroupMode,
    /// The v1 controllers' names, or the v2 root's `cgroup.controllers`.
    pub controllers: Vec<String>,
    /// `mount_setattr` with `AT_RECURSIVE` works (Linux 5.12).
    pub recursive_read_only: bool,
    /// Mounts can be idmapped (Linux 5.12 and a file system that allows it).
    pub idmapped_mounts: bool,
    /// A pod can have a user namespace of its own: the kernel makes one, and maps the owners of
    /// layers on the root's file system.
    pub user_namespaces: bool,
    /// Why no pod can; empty where it can.
    pub no_user_namespaces: String,
    /// AppArmor is on.
    pub apparmor: bool,
    /// The profile that Corten brings is loaded: the default of every container.
    pub apparmor_profile: bool,
    /// SELinux is on.
    pub selinux: bool,
    /// The kernel filters system calls.
    pub seccomp: bool,
    /// Swap is accounted: `memory.memsw.*` on v1, `memory.swap.*` on v2.
    pub swap_accounting: bool,
    /// The capabilities of this process's bounding set, as a mask: no container gets more.
    pub capability_bounds: u64,
    /// The hard limit on open files of this process: containers get at most this.
    pub max_open_files: u64,
}
