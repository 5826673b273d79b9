//! Creates can be joined, are taken back when they fail, and finish for whoever asks again.

use crate::leftovers::{Holdings, await_nothing_left};
use crate::node::{Node, in_a_node};
use crate::pods::{self, idle};
use crate::wait::until_true;
use corten_proto::runtime::v1::*;
use futures::future::join_all;
use tonic::Code;

/// A RunPodSandbox whose caller goes away while its network is being made.
async fn abandoned(node: &Node, config: &PodSandboxConfig) {
    node.network.forget();
    node.network.shut();
    let (cri, config) = (node.cri.clone(), config.clone());
    let call = tokio::spawn(async move { cri.run_pod(&config).await });
    node.network.until_added(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_five_runs_of_one_pod_are_one_sandbox() {
    in_a_node(async |node| {
        node.network.forget();
        let config = pods::pod("pod");
        let calls = join_all((0..5).map(|_| node.cri.run_pod(&config))).await;
        let ids: Vec<_> = calls.into_iter().map(Result::unwrap).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(node.cri.pods().await.len(), 1);
        assert_eq!(node.network.calls("ADD"), [ids[0].clone()]);
        assert_eq!(
            node.cri.run_pod(&config).await.unwrap(),
            ids[0],
            "also when it is there"
        );
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_five_creates_of_one_container_are_one_container() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let config = idle("c");
        let calls = join_all((0..5).map(|_| node.cri.create(&pod, &config))).await;
        let ids: Vec<_> = calls.into_iter().map(Result::unwrap).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(node.cri.containers().await.len(), 1);
        node.cri.start(&ids[0]).await.unwrap();
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_who_asks_again_while_it_is_made_gets_the_same_sandbox() {
    in_a_node(async |node| {
        let config = pods::pod("pod");
        abandoned(node, &config).await;
        let (cri, again) = (node.cri.clone(), config.clone());
        let retry = tokio::spawn(async move { cri.run_pod(&again).await });
        node.network.open();
        let id = retry.await.unwrap().unwrap();
        assert_eq!(node.network.calls("ADD"), [id.as_str()], "it was made once");
        let listed: Vec<_> = node
            .cri
            .pods()
            .await
            .into_iter()
            .map(|pod| pod.id)
            .collect();
        assert_eq!(listed, [id]);
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_who_asks_again_when_it_is_made_gets_the_same_sandbox() {
    in_a_node(async |node| {
        let config = pods::pod("pod");
        abandoned(node, &config).await;
        node.network.open();
        until_true("the sandbox is there", 20, async || {
            !node.cri.pods().await.is_empty()
        })
        .await;
        let id = node.cri.run_pod(&config).await.unwrap();
        assert_eq!(node.network.calls("ADD"), [id]);
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_another_config_under_the_key_of_a_pod_in_use_is_refused() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let other = pods::with_label(pod.config.clone(), "app", "other");
        let refusal = node.cri.run_pod(&other).await.unwrap_err();
        assert_eq!(refusal.code(), Code::AlreadyExists, "{refusal}");
        node.cri.stop_pod(&pod.id).await.unwrap();
        let refusal = node.cri.run_pod(&pod.config).await.unwrap_err();
        assert_eq!(
            refusal.code(),
            Code::AlreadyExists,
            "a stopped one as well: {refusal}"
        );
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_network_that_fails_leaves_nothing_and_is_asked_to_take_back() {
    in_a_node(async |node| {
        let before = Holdings::of_this_node();
        node.network.forget();
        node.network.break_down();
        let refusal = node.cri.run_pod(&pods::pod("pod")).await.unwrap_err();
        assert!(
            refusal.message().contains("the gate is broken"),
            "{refusal}"
        );
        let added = node.network.calls("ADD");
        assert_eq!(added.len(), 1);
        assert!(
            node.network.calls("DEL").contains(&added[0]),
            "DEL was called"
        );
        assert_eq!(node.cri.pods().await, []);
        await_nothing_left(&before).await;
        node.network.repair();
        node.run(pods::pod("pod")).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_ten_pods_at_once_have_ten_addresses() {
    in_a_node(async |node| {
        let configs: Vec<_> = (0..10).map(|n| pods::pod(&format!("pod-{n}"))).collect();
        let pods = join_all(configs.into_iter().map(|config| node.run(config))).await;
        let mut ips = join_all(pods.iter().map(|pod| node.cri.ip(&pod.id))).await;
        ips.sort();
        ips.dedup();
        assert_eq!(ips.len(), 10, "{ips:?}");
        join_all(pods.iter().map(|pod| node.launch(pod, idle("c")))).await;
    });
}
