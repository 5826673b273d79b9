//! A network that does not go when it is told to: the pod goes all the same, and the network later.

use crate::leftovers::{Holdings, await_nothing_left};
use crate::network::addresses;
use crate::node::in_a_node;
use crate::pods;
use crate::wait::until_true;
use corten_proto::runtime::v1::*;
use std::path::Path;

/// So often a plugin is asked that refuses, and more.
const REFUSALS: usize = 16;

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_pod_whose_network_will_not_go_is_stopped_and_removed_and_the_network_goes_later() {
    in_a_node(async |node| {
        let before = Holdings::of_this_node();
        let pod = node.run(pods::pod("pod")).await;
        node.network.jam();
        node.cri.stop_pod(&pod.id).await.unwrap();
        let state = node.cri.pods().await[0].state();
        assert_eq!(state, PodSandboxState::SandboxNotready);
        assert_eq!(addresses().len(), 1);

        node.kill_daemon();
        node.start_daemon().await;
        node.cri.remove_pod(&pod.id).await.unwrap();
        assert_eq!(node.cri.pods().await, []);

        node.kill_daemon();
        node.start_daemon().await;
        assert_eq!((node.cri.pods().await, addresses().len()), (vec![], 1));
        node.network.free();
        await_nothing_left(&before).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_plugin_that_refuses_for_ever_keeps_neither_the_address_nor_the_record() {
    in_a_node(async |node| {
        let before = Holdings::of_this_node();
        let pod = node.run(pods::pod("pod")).await;
        node.network.jam();
        // Each question is one more try.
        for _ in 0..REFUSALS {
            node.cri.stop_pod(&pod.id).await.unwrap();
        }
        node.cri.remove_pod(&pod.id).await.unwrap();
        let record = format!("/var/lib/corten/sandboxes/{}", pod.id);
        until_true("the record goes", 10, async || !Path::new(&record).exists()).await;
        // Nor what the plugins before it hold.
        await_nothing_left(&before).await;
    });
}
