//! How the node fares.

use crate::engine::{Condition, Handler, NodeStatus};
use crate::model::host::CgroupDriver;
use corten_proto::runtime::v1;

/// The answer to Status; a person's part only where it was asked for.
#[must_use]
pub fn status(node: NodeStatus, verbose: bool) -> v1::StatusResponse {
    let conditions = vec![
        condition("RuntimeReady", &node.runtime),
        condition("NetworkReady", &node.network),
        // Of Corten's own: the kubelet shows it and goes on.
        condition("CgroupDriverMatches", &node.cgroup_driver),
    ];
    let user_namespaces = node.handlers.iter().any(|handler| handler.user_namespaces);
    v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions }),
        info: match verbose {
            true => node.info.into_iter().collect(),
            false => Default::default(),
        },
        runtime_handlers: node.handlers.iter().map(Into::into).collect(),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: node.supplemental_groups_policy,
            // It asks nothing more of the node.
            user_namespaces_host_network: user_namespaces,
            // The spec's mounts carry them, whatever the handler.
            mount_options: true,
        }),
    }
}

fn condition(kind: &str, condition: &Condition) -> v1::RuntimeCondition {
    v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status: condition.ok,
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
}

impl From<&Handler> for v1::RuntimeHandler {
    fn from(handler: &Handler) -> Self {
        Self {
            name: handler.name.clone(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts: handler.recursive_read_only_mounts,
                user_namespaces: handler.user_namespaces,
            }),
        }
    }
}

/// Who makes cgroups, in the words of the wire.
#[must_use]
pub fn cgroup_driver(driver: CgroupDriver) -> v1::CgroupDriver {
    match driver {
        CgroupDriver::Cgroupfs => v1::CgroupDriver::Cgroupfs,
        CgroupDriver::Systemd => v1::CgroupDriver::Systemd,
    }
}
