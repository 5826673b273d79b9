//! Metrics of pods, as the kubelet asks for them: what critest's master asks of them (its release 1.36.0
//! has no specs of metrics), and that their values are those of the pod.

use crate::node::{Node, in_a_node};
use crate::pods::{self, Pod};
use corten_proto::runtime::v1::*;
use std::collections::{BTreeMap, BTreeSet};
use tokio_stream::StreamExt;

/// The families that a node's block devices or kernel may leave without a value.
const DEPEND_ON_THE_NODE: [&str; 14] = [
    "container_blkio_device_usage_total",
    "container_fs_reads_bytes_total",
    "container_fs_reads_total",
    "container_fs_writes_bytes_total",
    "container_fs_writes_total",
    "container_hugetlb_max_usage_bytes",
    "container_hugetlb_usage_bytes",
    "container_pressure_cpu_stalled_seconds_total",
    "container_pressure_cpu_waiting_seconds_total",
    "container_pressure_io_stalled_seconds_total",
    "container_pressure_io_waiting_seconds_total",
    "container_pressure_memory_stalled_seconds_total",
    "container_pressure_memory_waiting_seconds_total",
    // On version 2 since Linux 5.19.
    "container_memory_max_usage_bytes",
];

async fn descriptors(node: &Node) -> BTreeMap<String, MetricDescriptor> {
    let request = ListMetricDescriptorsRequest {};
    let answer = node.cri.runtime().list_metric_descriptors(request).await;
    let all = answer.unwrap().into_inner().descriptors;
    let count = all.len();
    let by_name: BTreeMap<_, _> = all.into_iter().map(|one| (one.name.clone(), one)).collect();
    assert_eq!(by_name.len(), count, "a name twice");
    by_name
}

async fn metrics(node: &Node) -> Vec<PodSandboxMetrics> {
    let request = ListPodSandboxMetricsRequest {};
    let answer = node.cri.runtime().list_pod_sandbox_metrics(request).await;
    answer.unwrap().into_inner().pod_metrics
}

async fn of_pod(node: &Node, id: &str) -> PodSandboxMetrics {
    let mut all = metrics(node).await;
    all.retain(|one| one.pod_sandbox_id == id);
    assert_eq!(all.len(), 1, "sandbox {id} is told once");
    all.remove(0)
}

/// The container with the limits that the suite asks for.
fn limited() -> ContainerConfig {
    let mut container = pods::idle("idle");
    container.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 1024,
        memory_limit_in_bytes: 64 << 20,
        memory_swap_limit_in_bytes: 64 << 20,
        ..Default::default()
    });
    container
}

async fn limited_pod(node: &Node) -> (Pod, String) {
    let pod = node.run(pods::pod("pod")).await;
    let id = node.launch(&pod, limited()).await;
    (pod, id)
}

fn value(of: &[Metric], name: &str, more: &[&str]) -> u64 {
    let found = of.iter().filter(|metric| metric.name == name);
    let found: Vec<_> = found
        .filter(|metric| metric.label_values[6..] == *more)
        .collect();
    assert_eq!(found.len(), 1, "{name} {more:?} is told once");
    found[0].value.unwrap().value
}

#[test]
#[ignore = "needs root"]
fn root_every_family_has_a_value_with_a_label_for_each_key() {
    in_a_node(async |node| {
        let descriptors = descriptors(node).await;
        assert_eq!(descriptors.len(), 56);
        for one in descriptors.values() {
            assert!(!one.help.is_empty() && one.label_keys.len() >= 6, "{one:?}");
        }
        let (pod, id) = limited_pod(node).await;
        node.cri
            .ask(
                &id,
                "mkdir /files; for i in 1 2 3; do echo hi >/files/$i; done",
            )
            .await;
        let told = of_pod(node, &pod.id).await;
        assert_eq!(told.container_metrics.len(), 1);
        assert_eq!(told.container_metrics[0].container_id, id);
        let of_container = &told.container_metrics[0].metrics;
        let mut missing: BTreeSet<_> = descriptors.keys().map(String::as_str).collect();
        let mut series = BTreeSet::new();
        for metric in told.metrics.iter().chain(of_container) {
            let descriptor = &descriptors[&metric.name];
            assert_eq!(
                metric.label_values.len(),
                descriptor.label_keys.len(),
                "{metric:?}"
            );
            assert!(
                series.insert((&metric.name, &metric.label_values)),
                "twice: {metric:?}"
            );
            missing.remove(metric.name.as_str());
        }
        missing.retain(|name| !DEPEND_ON_THE_NODE.contains(name));
        assert!(missing.is_empty(), "without a value: {missing:?}");
    });
}

#[test]
#[ignore = "needs root"]
fn root_labels_and_values_are_those_of_the_pod_and_its_container() {
    in_a_node(async |node| {
        let (pod, id) = limited_pod(node).await;
        node.cri
            .ask(&id, "dd if=/dev/zero of=/file bs=1M count=3 2>/dev/null")
            .await;
        node.cri
            .ask(&id, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
            .await;
        let told = of_pod(node, &pod.id).await;
        let (of_pod, own) = (&told.metrics, &told.container_metrics[0].metrics);
        for metric in own {
            let [cgroup, name, image, namespace, pod, container] = &metric.label_values[..6] else {
                panic!("{metric:?}");
            };
            assert!(
                cgroup.starts_with("/corten-test/") && cgroup.ends_with(&id),
                "{cgroup}"
            );
            assert_eq!(*name, id);
            assert!(image.contains(':') || image.contains('@'), "{image}");
            assert_eq!(
                [namespace, pod, container].map(String::as_str),
                ["tests", "pod", "idle"]
            );
        }
        for metric in of_pod {
            let base: Vec<_> = metric.label_values[..6]
                .iter()
                .map(String::as_str)
                .collect();
            assert_eq!(
                base,
                ["/corten-test", "", "", "tests", "pod", ""],
                "{}",
                metric.name
            );
        }
        assert_eq!(value(own, "container_spec_cpu_quota", &[]), 20_000);
        assert_eq!(value(own, "container_spec_cpu_period", &[]), 100_000);
        assert_eq!(value(own, "container_spec_cpu_shares", &[]), 1024);
        assert_eq!(
            value(own, "container_spec_memory_limit_bytes", &[]),
            64 << 20
        );
        // Its shell and what the shell waits for.
        assert_eq!(value(own, "container_processes", &[]), 2);
        assert_eq!(value(own, "container_threads", &[]), 2);
        assert_eq!(value(of_pod, "container_processes", &[]), 2);
        assert!(value(own, "container_file_descriptors", &[]) >= 6);
        assert_eq!(value(own, "container_sockets", &[]), 0);
        assert!(value(own, "container_ulimits_soft", &["max_open_files"]) > 0);
        assert!(value(own, "container_memory_working_set_bytes", &[]) > 0);
        assert!(value(own, "container_memory_cache", &[]) >= 3 << 20);
        assert!(value(own, "container_memory_usage_bytes", &[]) >= 3 << 20);
        let used = value(own, "container_cpu_usage_seconds_total", &["total"]);
        assert!(value(of_pod, "container_cpu_usage_seconds_total", &["total"]) >= used);
        assert!(value(own, "container_cpu_cfs_periods_total", &[]) > 0);
        let started = value(own, "container_start_time_seconds", &[]);
        assert!(value(own, "container_last_seen", &[]) >= started && started > 1_700_000_000);
        let device = &own
            .iter()
            .find(|m| m.name == "container_fs_limit_bytes")
            .unwrap()
            .label_values[6];
        assert!(value(own, "container_fs_limit_bytes", &[device]) > 3 << 20);
    });
}

#[test]
#[ignore = "needs root"]
fn root_traffic_of_a_pod_is_told_by_interface_and_the_nodes_own_is_not() {
    in_a_node(async |node| {
        let (pod, id) = limited_pod(node).await;
        let packets = async || {
            let told = of_pod(node, &pod.id).await;
            let sent = "container_network_transmit_packets_total";
            value(&told.metrics, sent, &["eth0"])
        };
        let before = packets().await;
        node.cri.ask(&id, "ping -c 3 -w 10 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >/dev/null; true").await;
        assert!(packets().await >= before + 3);
        let told = of_pod(node, &pod.id).await;
        assert!(
            value(
                &told.metrics,
                "container_network_receive_bytes_total",
                &["eth0"]
            ) > 0
        );
        let on_node = NamespaceOption {
            network: NamespaceMode::Node.into(),
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        };
        let mut config = pods::in_namespaces(pods::pod("on-node"), on_node);
        config.hostname = String::new();
        let other = node.run(config.clone()).await;
        node.launch(&other, pods::joined(pods::idle("idle"), &config))
            .await;
        let told = of_pod(node, &other.id).await;
        let is_network = |metric: &&Metric| metric.name.starts_with("container_network_");
        assert_eq!(told.metrics.iter().find(is_network), None);
    });
}

#[test]
#[ignore = "needs root"]
fn root_a_stream_tells_the_same_pods_and_neither_tells_of_what_has_ended() {
    in_a_node(async |node| {
        let (pod, id) = limited_pod(node).await;
        let other = node.run(pods::pod("other")).await;
        let ids = |all: &[PodSandboxMetrics]| -> BTreeSet<String> {
            all.iter().map(|one| one.pod_sandbox_id.clone()).collect()
        };
        let request = StreamPodSandboxMetricsRequest {};
        let answer = node.cri.runtime().stream_pod_sandbox_metrics(request).await;
        let mut parts = answer.unwrap().into_inner();
        let mut streamed = Vec::new();
        while let Some(part) = parts.next().await {
            let part = part.unwrap().pod_sandbox_metrics;
            assert!(!part.is_empty());
            streamed.extend(part);
        }
        assert_eq!(ids(&streamed), ids(&metrics(node).await));
        assert_eq!(
            ids(&streamed),
            BTreeSet::from([pod.id.clone(), other.id.clone()])
        );
        node.cri.stop(&id, 5).await.unwrap();
        assert!(of_pod(node, &pod.id).await.container_metrics.is_empty());
        node.cri.stop_pod(&pod.id).await.unwrap();
        assert_eq!(ids(&metrics(node).await), BTreeSet::from([other.id]));
    });
}
