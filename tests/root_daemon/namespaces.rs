//! Namespaces of pods and containers: which are shared, which are the node's, and what is set in them.

use crate::node::{Node, in_a_node};
use crate::pods::{self, idle, in_namespaces, joined, shell};
use crate::processes;
use crate::wait::until_true;
use corten_proto::runtime::v1::*;
use std::fs;

/// A namespace as a process in the container sees its own.
async fn inside(node: &Node, id: &str, name: &str) -> String {
    node.cri
        .ask(id, &format!("readlink /proc/self/ns/{name}"))
        .await
}

fn of_node(name: &str) -> String {
    processes::link("self", &format!("ns/{name}"))
}

fn shared_pid() -> NamespaceOption {
    NamespaceOption {
        pid: NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_containers_of_a_pod_share_what_a_pod_shares() {
    in_a_node(async |node| {
        let (pod, first) = node.idle().await;
        let second = node.launch(&pod, idle("second")).await;
        for name in ["net", "ipc", "uts"] {
            let of_first = inside(node, &first, name).await;
            assert_eq!(of_first, inside(node, &second, name).await, "{name}");
            assert_ne!(of_first, of_node(name), "{name}");
        }
        for name in ["pid", "mnt"] {
            let of_first = inside(node, &first, name).await;
            assert_ne!(of_first, inside(node, &second, name).await, "{name}");
        }
        node.cri.ask(&first, "echo hello >/dev/shm/note").await;
        assert_eq!(node.cri.ask(&second, "cat /dev/shm/note").await, "hello");
        node.cri.ask(&first, "echo mine >/tmp/note").await;
        assert_eq!(node.cri.ask(&second, "ls /tmp").await, "");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_alone_is_pid_1() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let id = node
            .launch(&pod, shell("c", "exec tail -f /dev/null"))
            .await;
        let first = node.cri.ask(&id, "tr '\\0' ' ' </proc/1/cmdline").await;
        assert_eq!(first, "tail -f /dev/null");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_in_a_shared_pid_namespace_the_holder_is_pid_1() {
    in_a_node(async |node| {
        let pod = node
            .run(in_namespaces(pods::pod("pod"), shared_pid()))
            .await;
        let first = node.launch(&pod, joined(idle("first"), &pod.config)).await;
        let second = node
            .launch(
                &pod,
                joined(shell("second", "exec tail -f /etc/passwd"), &pod.config),
            )
            .await;
        assert_eq!(
            inside(node, &first, "pid").await,
            inside(node, &second, "pid").await
        );
        let holder = node.cri.ask(&first, "tr '\\0' ' ' </proc/1/cmdline").await;
        assert!(holder.contains("corten-shim"), "{holder}");
        let seen = node
            .cri
            .ask(&first, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            .await;
        assert!(
            seen.contains("tail -f /etc/passwd"),
            "one container sees the other: {seen}"
        );
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_the_holder_reaps_orphans() {
    in_a_node(async |node| {
        let pod = node
            .run(in_namespaces(pods::pod("pod"), shared_pid()))
            .await;
        // The inner shell ends at once, so its child is an orphan that ends later.
        let script = "sh -c '/bin/sleep 0.3 & echo $! >/tmp/orphan'; echo ready; \
            exec tail -f /dev/null";
        let id = node
            .launch(&pod, joined(shell("c", script), &pod.config))
            .await;
        node.await_ready(&id).await;
        let gone = "[ ! -e /proc/$(cat /tmp/orphan) ]";
        let reaped = async || node.cri.exec(&id, gone, 10).await.unwrap().exit_code == 0;
        until_true("the orphan is reaped", 10, reaped).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_of_a_shared_pid_namespace_ends_alone() {
    in_a_node(async |node| {
        let pod = node
            .run(in_namespaces(pods::pod("pod"), shared_pid()))
            .await;
        let first = node.launch(&pod, joined(idle("first"), &pod.config)).await;
        let second = node.launch(&pod, joined(idle("second"), &pod.config)).await;
        let child = "tail -f /dev/null";
        node.cri.stop(&first, 0).await.unwrap();
        assert_eq!(node.cri.status(&first).await.unwrap().exit_code, 137);
        let tails = || {
            let all = processes::all().into_iter();
            all.filter(|process| process.arguments.join(" ").ends_with(child))
                .count()
        };
        until_true(
            "what the first started is gone, the second goes on",
            5,
            async || tails() == 1,
        )
        .await;
        assert_eq!(node.cri.ask(&second, "echo on").await, "on");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_pod_may_use_the_namespaces_of_the_node() {
    in_a_node(async |node| {
        let host = NamespaceMode::Node.into();
        let options = NamespaceOption {
            network: host,
            pid: host,
            ipc: host,
            ..Default::default()
        };
        let mut config = in_namespaces(pods::pod("pod"), options);
        config.hostname.clear();
        let pod = node.run(config).await;
        let id = node.launch(&pod, joined(idle("c"), &pod.config)).await;
        for name in ["net", "pid", "ipc"] {
            assert_eq!(inside(node, &id, name).await, of_node(name), "{name}");
        }
        assert_ne!(inside(node, &id, "mnt").await, of_node("mnt"));
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(node.cri.ask(&id, "hostname").await, name.trim());
        assert_eq!(node.cri.ip(&pod.id).await, "");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_sysctls_are_the_pods_own() {
    in_a_node(async |node| {
        let wanted = [
            ("kernel.shm_rmid_forced", "1"),
            ("net.ipv4.ip_default_ttl", "77"),
        ];
        let mut config = pods::pod("pod");
        let pairs = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        config.linux.as_mut().unwrap().sysctls = pairs.into();
        let pod = node.run(config).await;
        let id = node.launch(&pod, idle("c")).await;
        for (name, value) in wanted {
            let file = format!("/proc/sys/{}", name.replace('.', "/"));
            assert_eq!(node.cri.ask(&id, &format!("cat {file}")).await, value);
            assert_ne!(
                fs::read_to_string(&file).unwrap().trim(),
                value,
                "{name} of the node"
            );
        }
    });
}
