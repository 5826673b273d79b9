//! Status: whether pods can be run here, and what this node can.

use super::Engine;
use super::run_pod_sandbox::HANDLERS;
use serde_json::json;
use std::collections::BTreeMap;

/// One thing that must be so for pods to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// It is so.
    pub ok: bool,
    /// One word for it; empty when it is so.
    pub reason: String,
    /// What a person can do; empty when it is so.
    pub message: String,
}

/// A runtime handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name; empty for the default.
    pub name: String,
    /// It can make mounts read-only with all below them.
    pub recursive_read_only_mounts: bool,
    /// It can give a pod a user namespace.
    pub user_namespaces: bool,
}

/// How the node fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Containers can be run.
    pub runtime: Condition,
    /// Pods can be given a network.
    pub network: Condition,
    /// The kubelet names pods' cgroups as this node's cgroup driver needs them. Where it does not, pods
    /// are refused; the node is not unready for that, or none would come that shows the mend.
    pub cgroup_driver: Condition,
    /// The handlers.
    pub handlers: Vec<Handler>,
    /// The policy for supplementary groups is obeyed.
    pub supplemental_groups_policy: bool,
    /// More, for a person: values are JSON.
    pub info: BTreeMap<String, String>,
}

impl Condition {
    pub(super) fn of(ready: Result<(), String>, reason: &str) -> Self {
        let ok = ready.is_ok();
        let reason = if ok { "" } else { reason };
        Self {
            ok,
            reason: reason.to_owned(),
            message: ready.err().unwrap_or_default(),
        }
    }
}

impl Engine {
    /// How the node fares.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let networks = self.ports.networks.ready();
        let handler = |name: &&str| Handler {
            name: (*name).to_owned(),
            recursive_read_only_mounts: self.node.host.recursive_read_only,
            user_namespaces: self.node.host.user_namespaces,
        };
        let info = json!({
            "stateDir": self.node.state,
            "bootID": self.node.boot_id,
            "host": self.node.host,
        });
        NodeStatus {
            runtime: self.runtime_condition(),
            network: Condition::of(networks, "NetworkPluginNotReady"),
            cgroup_driver: self.driver_condition(),
            handlers: HANDLERS.iter().map(handler).collect(),
            supplemental_groups_policy: true,
            info: BTreeMap::from([("config".to_owned(), info.to_string())]),
        }
    }

    fn runtime_condition(&self) -> Condition {
        let tasks = Condition::of(self.ports.tasks.ready(), "ShimNotReady");
        match tasks.ok {
            true => Condition::of(self.ports.snapshots.ready(), "SnapshotterNotReady"),
            false => tasks,
        }
    }
}
