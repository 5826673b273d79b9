//! Pods with a user namespace of their own (`hostUsers: false`), as a kubelet asks for them.

use crate::image;
use crate::node::{Node, in_a_node};
use crate::pods::{self, Pod, gated, idle, in_namespaces, joined};
use crate::processes;
use corten_proto::runtime::v1::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tonic::Code;

/// What root inside is on the node.
const FIRST: u32 = 100_000;
const LENGTH: u32 = 65_536;

fn ids(host_id: u32) -> Vec<IdMapping> {
    vec![IdMapping {
        host_id,
        container_id: 0,
        length: LENGTH,
    }]
}

/// The namespaces of such a pod.
pub fn own_users() -> NamespaceOption {
    NamespaceOption {
        pid: NamespaceMode::Container.into(),
        userns_options: Some(UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: ids(FIRST),
            gids: ids(FIRST),
        }),
        ..Default::default()
    }
}

/// The container in its pod's namespaces; all its volumes have their owners mapped, as the kubelet
/// asks for it.
fn as_kubelet(container: ContainerConfig, pod: &PodSandboxConfig) -> ContainerConfig {
    let mut container = joined(container, pod);
    for mount in &mut container.mounts {
        mount.uid_mappings = ids(FIRST);
        mount.gid_mappings = ids(FIRST);
    }
    container
}

async fn run(node: &Node, name: &str, options: NamespaceOption) -> (Pod, String) {
    let pod = node.run(in_namespaces(pods::pod(name), options)).await;
    let mut container = gated(idle("c"), &node.gate(name));
    container.mounts.push(Mount {
        container_path: "/image".to_owned(),
        readonly: true,
        image: Some(ImageSpec {
            image: image::NAME.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    });
    let container = as_kubelet(container, &pod.config);
    let id = node.launch(&pod, container).await;
    (pod, id)
}

fn mapped() -> String {
    format!("0 {FIRST} {LENGTH}")
}

async fn map(node: &Node, id: &str) -> String {
    let text = node.cri.ask(id, "cat /proc/self/uid_map").await;
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ")
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_pod_of_its_own_users_outlives_the_daemon() {
    in_a_node(async |node| {
        let (pod, id) = run(node, "users", own_users()).await;
        let pid = node.cri.pid(&id).await;
        node.kill_daemon();
        node.start_daemon().await;
        assert_eq!(map(node, &id).await, mapped());
        assert_eq!(node.cri.pid(&id).await, pid);
        let second = node
            .launch(&pod, as_kubelet(idle("second"), &pod.config))
            .await;
        let of_second = node.cri.ask(&second, "readlink /proc/self/ns/user").await;
        assert_eq!(of_second, processes::link(&pid.to_string(), "ns/user"));
        let options = node.cri.pod_status(&pod.id).await.unwrap();
        let options = options.linux.unwrap().namespaces.unwrap().options.unwrap();
        assert_eq!(options.userns_options.unwrap().uids, ids(FIRST));
        node.cri.stop(&id, 20).await.unwrap();
        node.cri.stop_pod(&pod.id).await.unwrap();
        node.cri.remove_pod(&pod.id).await.unwrap();
        let pin = Path::new("/run/corten/sandboxes").join(&pod.id);
        assert!(!pin.exists(), "{}", pin.display());
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_the_images_and_the_volumes_files_are_the_pods_own() {
    in_a_node(async |node| {
        let (pod, id) = run(node, "users", own_users()).await;
        let owner = |path: &str| format!("stat -c %u:%g {path}");
        for path in [
            "/",
            "/bin/busybox",
            "/gate",
            "/image/bin",
            "/etc/hosts",
            "/dev/null",
        ] {
            assert_eq!(node.cri.ask(&id, &owner(path)).await, "0:0", "{path}");
        }
        node.cri
            .ask(&id, "echo x >/gate/made && echo x >>/etc/hosts")
            .await;
        let made = fs::metadata(node.gate("users").join("made")).unwrap();
        assert_eq!(made.uid(), 0, "on the disk the volume's owners stay");
        let hosts = Path::new("/run/corten/sandboxes").join(&pod.id);
        let hosts = fs::metadata(hosts.join("hosts")).unwrap();
        assert_eq!(hosts.uid(), FIRST);
        let pid = node.cri.pid(&id).await;
        assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), FIRST);
        node.cri.ask(&id, "ping -c 1 127.0.0.1").await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_users_of_its_own_go_with_a_shared_pid_namespace_and_with_the_nodes_network() {
    in_a_node(async |node| {
        let shared = NamespaceOption {
            pid: NamespaceMode::Pod.into(),
            ..own_users()
        };
        let (_, id) = run(node, "shared", shared).await;
        assert_eq!(map(node, &id).await, mapped());
        let first = node.cri.ask(&id, "tr '\\0' ' ' </proc/1/cmdline").await;
        assert!(first.ends_with("pause"), "{first}");
        let network = NamespaceOption {
            network: NamespaceMode::Node.into(),
            ..own_users()
        };
        let (_, id) = run(node, "network", network).await;
        assert_eq!(map(node, &id).await, mapped());
        let net = node.cri.ask(&id, "readlink /proc/self/ns/net").await;
        assert_eq!(net, processes::link("self", "ns/net"));
        assert!(node.cri.ask(&id, "ls /sys/class/net").await.contains("lo"));
        let written = node
            .cri
            .exec(&id, "echo 0 >/sys/kernel/profiling", 20)
            .await;
        let written = String::from_utf8(written.unwrap().stderr).unwrap();
        assert!(written.contains("Read-only"), "{written}");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_of_other_users_than_its_pods_is_refused() {
    in_a_node(async |node| {
        let pod = node
            .run(in_namespaces(pods::pod("users"), own_users()))
            .await;
        let refused = node.cri.create(&pod, &idle("c")).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("userns_options"), "{refused}");
    });
}
