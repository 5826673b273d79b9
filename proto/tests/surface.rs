//! Which calls the API has: exactly 37 of `RuntimeService` and 6 of `ImageService`, under the paths
//! that a kubelet calls, and which of them stream.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use corten_proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, ServiceDescriptor};

/// The calls of `/runtime.v1.RuntimeService/` at cri-api v0.37.0.
const RUNTIME: [&str; 37] = [
    "Attach",
    "CheckpointContainer",
    "CheckpointPod",
    "ContainerStats",
    "ContainerStatus",
    "CreateContainer",
    "Exec",
    "ExecSync",
    "GetContainerEvents",
    "ListContainerStats",
    "ListContainers",
    "ListMetricDescriptors",
    "ListPodSandbox",
    "ListPodSandboxMetrics",
    "ListPodSandboxStats",
    "PodSandboxStats",
    "PodSandboxStatus",
    "PortForward",
    "RemoveContainer",
    "RemovePodSandbox",
    "ReopenContainerLog",
    "RestorePod",
    "RunPodSandbox",
    "RuntimeConfig",
    "StartContainer",
    "Status",
    "StopContainer",
    "StopPodSandbox",
    "StreamContainerStats",
    "StreamContainers",
    "StreamPodSandboxMetrics",
    "StreamPodSandboxStats",
    "StreamPodSandboxes",
    "UpdateContainerResources",
    "UpdatePodSandboxResources",
    "UpdateRuntimeConfig",
    "Version",
];

/// The calls of `/runtime.v1.ImageService/`.
const IMAGE: [&str; 6] = [
    "ImageFsInfo",
    "ImageStatus",
    "ListImages",
    "PullImage",
    "RemoveImage",
    "StreamImages",
];

/// The only name beside `Stream…` whose answer is a stream.
const EVENTS: &str = "GetContainerEvents";

fn service(name: &str) -> ServiceDescriptor {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    pool.get_service_by_name(name).unwrap()
}

/// Paths as HTTP/2 carries them.
fn paths(service: &ServiceDescriptor) -> BTreeSet<String> {
    let name = service.full_name();
    service
        .methods()
        .map(|method| format!("/{name}/{}", method.name()))
        .collect()
}

fn expected(service: &str, methods: &[&str]) -> BTreeSet<String> {
    methods
        .iter()
        .map(|method| format!("/{service}/{method}"))
        .collect()
}

#[test]
fn runtime_service_has_its_37_calls() {
    let service = service("runtime.v1.RuntimeService");
    assert_eq!(
        paths(&service),
        expected("runtime.v1.RuntimeService", &RUNTIME)
    );
    assert!(paths(&service).contains("/runtime.v1.RuntimeService/RunPodSandbox"));
}

#[test]
fn image_service_has_its_6_calls() {
    let service = service("runtime.v1.ImageService");
    assert_eq!(paths(&service), expected("runtime.v1.ImageService", &IMAGE));
}

#[test]
fn only_stream_calls_and_events_stream() {
    for service in [
        service("runtime.v1.RuntimeService"),
        service("runtime.v1.ImageService"),
    ] {
        for method in service.methods() {
            let streams = method.name().starts_with("Stream") || method.name() == EVENTS;
            assert_eq!(method.is_server_streaming(), streams, "{}", method.name());
            assert!(!method.is_client_streaming(), "{}", method.name());
        }
    }
}

/// A request and answer named after the call, as the whole API has it but for events.
#[test]
fn calls_take_and_give_the_messages_of_their_name() {
    for service in [
        service("runtime.v1.RuntimeService"),
        service("runtime.v1.ImageService"),
    ] {
        for method in service.methods().filter(|method| method.name() != EVENTS) {
            assert_eq!(method.input().name(), format!("{}Request", method.name()));
            assert_eq!(method.output().name(), format!("{}Response", method.name()));
        }
    }
}

#[test]
fn admin_shares_no_path_with_the_cri() {
    let admin = service("corten.admin.v1.Admin");
    assert!(paths(&admin).contains("/corten.admin.v1.Admin/Status"));
    let streams = [
        "PullImage",
        "ImportImage",
        "ImportArchive",
        "ExportImage",
        "CheckImages",
    ];
    for method in admin.methods() {
        assert_eq!(
            method.is_server_streaming(),
            streams.contains(&method.name()),
            "{}",
            method.name()
        );
    }
}
