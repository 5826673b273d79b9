//! What a pod and its container are said to use.

use crate::node::{Node, in_a_node};
use corten_proto::runtime::v1::*;
use std::path::Path;

async fn of_pod(node: &Node, id: &str) -> LinuxPodSandboxStats {
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let answer = node.cri.runtime().pod_sandbox_stats(request).await.unwrap();
    answer.into_inner().stats.unwrap().linux.unwrap()
}

/// The kernel tells of waits in the v2 tree, be it alone or beside v1.
fn tells_of_waits(container: &str) -> bool {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(|root| format!("{root}/corten-test/{container}/io.pressure"))
        .iter()
        .any(|file| Path::new(file).exists())
}

#[test]
#[ignore = "needs root"]
fn root_a_pods_figures_are_there_and_absent_where_the_kernel_has_none() {
    in_a_node(async |node| {
        let (pod, id) = node.idle().await;
        let pod = of_pod(node, &pod.id).await;
        let network = pod.network.unwrap();
        let eth0 = network.default_interface.unwrap();
        assert_eq!(eth0.name, "eth0");
        assert!(eth0.rx_bytes.is_some() && eth0.tx_errors.is_some());
        assert!(network.timestamp > 0 && network.interfaces.is_empty());
        assert!(pod.process.unwrap().process_count.unwrap().value >= 2);
        assert_eq!(pod.containers.len(), 1);
        let container = &pod.containers[0];
        let (cpu, memory) = (
            container.cpu.as_ref().unwrap(),
            container.memory.as_ref().unwrap(),
        );
        assert!(cpu.timestamp > 0 && memory.timestamp > 0);
        assert!(memory.usage_bytes.unwrap().value > 0);
        assert_eq!(memory.available_bytes, None, "no limit, nothing left of it");
        let told = tells_of_waits(&id);
        assert_eq!(container.io.is_some(), told);
        assert_eq!(memory.psi.is_some(), told);
        assert_eq!(cpu.psi.is_some(), told);
    });
}
