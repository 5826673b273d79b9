//! New limits of containers and pods while they live.

use crate::node::{Node, in_a_node};
use crate::pods::{self, idle, with_memory};
use corten_proto::runtime::v1::*;
use std::path::{Path, PathBuf};
use tonic::{Code, Status};

const MIB: i64 = 1 << 20;

/// The memory limit that a cgroup has on either version.
fn memory_limit(cgroup: &str) -> String {
    let places = [
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ];
    let file = |(root, file)| PathBuf::from(format!("{root}{cgroup}/{file}"));
    let found = places.map(file).into_iter().find(|path| path.exists());
    let found = found.unwrap_or_else(|| panic!("no memory limit of {cgroup}"));
    std::fs::read_to_string(found).unwrap().trim().to_owned()
}

async fn update(node: &Node, id: &str, limits: LinuxContainerResources) -> Result<(), Status> {
    let request = UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(limits),
        ..Default::default()
    };
    let answer = node.cri.runtime().update_container_resources(request).await;
    answer.map(drop)
}

async fn told(node: &Node, id: &str) -> LinuxContainerResources {
    let status = node.cri.status(id).await.unwrap();
    status.resources.unwrap().linux.unwrap()
}

#[test]
#[ignore = "needs root"]
fn root_new_limits_are_in_force_told_and_remembered() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let id = node.launch(&pod, with_memory(idle("c"), 64 * MIB)).await;
        let cgroup = format!("/corten-test/{id}");
        for bytes in [256 * MIB, 32 * MIB] {
            let limits = LinuxContainerResources {
                memory_limit_in_bytes: bytes,
                memory_swap_limit_in_bytes: bytes,
                cpu_quota: bytes / 1024,
                cpu_period: 100_000,
                ..Default::default()
            };
            update(node, &id, limits.clone()).await.unwrap();
            assert_eq!(memory_limit(&cgroup), bytes.to_string());
            assert_eq!(told(node, &id).await.cpu_quota, bytes / 1024);
        }
        // The memory limit stays when one of its neighbours is refused.
        let impossible = LinuxContainerResources {
            memory_limit_in_bytes: 128 * MIB,
            memory_swap_limit_in_bytes: 128 * MIB,
            cpuset_cpus: "4000".to_owned(),
            ..Default::default()
        };
        let refused = update(node, &id, impossible).await.unwrap_err();
        let said = refused.message();
        assert!(
            said.contains("cpuset.cpus") && said.contains("4000"),
            "{said}"
        );
        assert_eq!(memory_limit(&cgroup), (32 * MIB).to_string());
        node.kill_daemon();
        node.start_daemon().await;
        let told = told(node, &id).await;
        assert_eq!(told.memory_limit_in_bytes, 32 * MIB);
        assert_eq!(told.cpuset_cpus, "");
    });
}

#[test]
#[ignore = "needs root"]
fn root_an_ended_container_has_no_limits_to_change() {
    in_a_node(async |node| {
        let (_, id) = node.idle().await;
        node.cri.stop(&id, 10).await.unwrap();
        let limits = LinuxContainerResources {
            cpu_shares: 2,
            ..Default::default()
        };
        let refused = update(node, &id, limits.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let unknown = update(node, &"0".repeat(64), limits).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    });
}

#[test]
#[ignore = "needs root"]
fn root_a_pods_limits_are_written_where_its_cgroup_is_cortens_own() {
    in_a_node(async |node| {
        let mut config = pods::pod("own");
        config.linux.as_mut().unwrap().cgroup_parent = String::new();
        let pod = node.run(config).await;
        let limits = |bytes| LinuxContainerResources {
            memory_limit_in_bytes: bytes,
            ..Default::default()
        };
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: pod.id.clone(),
            overhead: Some(limits(MIB)),
            resources: Some(limits(64 * MIB)),
        };
        let mut cri = node.cri.runtime();
        cri.update_pod_sandbox_resources(request).await.unwrap();
        let cgroup = format!("/corten/pods/{}", pod.id);
        assert_eq!(memory_limit(&cgroup), (65 * MIB).to_string());
        // A container of it lives below.
        let id = node.launch(&pod, with_memory(idle("c"), 32 * MIB)).await;
        assert_eq!(
            memory_limit(&format!("{cgroup}/{id}")),
            (32 * MIB).to_string()
        );
        assert!(
            !Path::new("/sys/fs/cgroup/memory/corten-test")
                .join(&id)
                .exists()
        );
    });
}
