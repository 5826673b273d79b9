//! What a cgroup's packets are marked with (v1), and its share of RDMA devices.

use super::limits::{Setting, setting};
use crate::bundle::resources::{Rdma, Resources};

/// What is to be written.
pub fn settings(resources: &Resources<'_>) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(network) = &resources.network {
        let class = network.class_id;
        all.extend(class.map(|class| setting("net_cls", "net_cls.classid", class)));
        for interface in &network.priorities {
            let text = format!("{} {}", interface.name, interface.priority);
            all.push(setting("net_prio", "net_prio.ifpriomap", text));
        }
    }
    for (name, device) in &resources.rdma {
        all.push(setting(
            "rdma",
            "rdma.max",
            format!("{name}{}", words(device)),
        ));
    }
    all
}

fn words(device: &Rdma) -> String {
    let handles = device
        .hca_handles
        .map(|count| format!(" hca_handle={count}"));
    let objects = device
        .hca_objects
        .map(|count| format!(" hca_object={count}"));
    [handles, objects].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_and_each_device_has_a_line() {
        let json = r#"{"network":{"classID":7,"priorities":[{"name":"lo","priority":3}]},
            "rdma":{"mlx5_1":{"hcaHandles":3},"mlx5_2":{}}}"#;
        let resources: Resources<'_> = serde_json::from_str(json).unwrap();
        let line = |one: Setting| format!("{} {}", one.file, one.value);
        let written: Vec<_> = settings(&resources).into_iter().map(line).collect();
        assert_eq!(
            written,
            [
                "net_cls.classid 7",
                "net_prio.ifpriomap lo 3",
                "rdma.max mlx5_1 hca_handle=3",
                "rdma.max mlx5_2",
            ]
        );
    }
}
