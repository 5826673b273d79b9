//! `kill -9` of the daemon while something is being made: after a start it is there whole, or
//! nothing of it is.

use crate::leftovers::{Holdings, await_nothing_left};
use crate::node::{Node, in_a_node};
use crate::pods::{self, Pod, idle};
use crate::wait::until;
use corten_proto::runtime::v1::*;
use std::time::Duration;

/// Kills in one test; each is followed by a start.
const ROUNDS: u64 = 8;
/// Where the moments of the kills come from: the same in each run.
const SEED: u64 = 20_260;

/// Lets `call` run for a moment that the seed says, and kills the daemon. A moment here is what is
/// tested, and no wait for anything.
async fn kill_during<T: Send + 'static>(
    node: &mut Node,
    random: &mut fastrand::Rng,
    longest: Duration,
    call: impl Future<Output = T> + Send + 'static,
) {
    let moment = longest.mul_f64(random.f64());
    println!("killed after {moment:?}");
    let call = tokio::spawn(call);
    tokio::time::sleep(moment).await;
    node.kill_daemon();
    drop(call.await);
}

/// All sandboxes that are there can be used; then they are removed.
async fn use_and_remove(node: &Node, config: &PodSandboxConfig) {
    for found in node.cri.pods().await {
        let pod = Pod {
            id: found.id,
            config: config.clone(),
        };
        let id = node.launch(&pod, idle("probe")).await;
        assert_eq!(node.cri.ask(&id, "hostname").await, config.hostname);
    }
    node.remove_all().await;
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_kill_while_the_network_is_made_leaves_nothing() {
    in_a_node(async |node| {
        let before = Holdings::of_this_node();
        node.network.forget();
        node.network.shut();
        let cri = node.cri.clone();
        let call = tokio::spawn(async move { cri.run_pod(&pods::pod("pod")).await });
        node.network.until_added(1).await;
        let half_made = Holdings::of_this_node().more_than(&before);
        for kind in ["network namespace", "address", "file", "link"] {
            let is_there = half_made.iter().any(|what| what.starts_with(kind));
            assert!(is_there, "no {kind} is there to be undone: {half_made:?}");
        }
        node.kill_daemon();
        call.await.unwrap().unwrap_err();

        node.start_daemon().await;
        assert_eq!(node.cri.pods().await, []);
        let added = node.network.calls("ADD");
        assert!(
            node.network.calls("DEL").contains(&added[0]),
            "DEL was called"
        );
        // Not even the plugin, which still waits.
        await_nothing_left(&before).await;
        node.network.open();
        node.run(pods::pod("pod")).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_kill_during_run_pod_sandbox_leaves_all_or_nothing() {
    in_a_node(async |node| {
        let before = Holdings::of_this_node();
        let mut random = fastrand::Rng::with_seed(SEED);
        for round in 0..ROUNDS {
            let config = pods::pod(&format!("pod-{round}"));
            let (cri, asked) = (node.cri.clone(), config.clone());
            let call = async move { cri.run_pod(&asked).await };
            kill_during(node, &mut random, Duration::from_millis(150), call).await;
            node.start_daemon().await;
            use_and_remove(node, &config).await;
            await_nothing_left(&before).await;
        }
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_kill_during_create_container_leaves_all_or_nothing() {
    in_a_node(async |node| {
        let config = pods::pod("pod");
        let id = node.run(config.clone()).await.id;
        let before = Holdings::of_this_node();
        let mut random = fastrand::Rng::with_seed(SEED);
        for round in 0..ROUNDS {
            let pod = Pod {
                id: id.clone(),
                config: config.clone(),
            };
            let (cri, container) = (node.cri.clone(), idle(&format!("c-{round}")));
            let call = async move { cri.create(&pod, &container).await };
            kill_during(node, &mut random, Duration::from_millis(40), call).await;
            node.start_daemon().await;
            for container in node.cri.containers().await {
                node.cri.start(&container.id).await.unwrap();
                assert_eq!(node.cri.ask(&container.id, "echo whole").await, "whole");
                node.cri.remove(&container.id).await.unwrap();
            }
            await_nothing_left(&before).await;
        }
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_kill_during_a_removal_is_finished_by_the_next_one() {
    in_a_node(async |node| {
        let before = Holdings::of_this_node();
        let mut random = fastrand::Rng::with_seed(SEED);
        for _ in 0..ROUNDS {
            let (pod, _) = node.idle().await;
            let (cri, id) = (node.cri.clone(), pod.id.clone());
            let call = async move { cri.remove_pod(&id).await };
            kill_during(node, &mut random, Duration::from_millis(120), call).await;
            node.start_daemon().await;
            node.cri.stop_pod(&pod.id).await.unwrap();
            node.cri.remove_pod(&pod.id).await.unwrap();
            assert_eq!(node.cri.containers().await, []);
            await_nothing_left(&before).await;
        }
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_kill_during_a_start_leaves_a_container_that_is_known() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let mut random = fastrand::Rng::with_seed(SEED);
        for round in 0..ROUNDS {
            let container = idle(&format!("c-{round}"));
            let id = node.cri.create(&pod, &container).await.unwrap();
            let (cri, started) = (node.cri.clone(), id.clone());
            let call = async move { cri.start(&started).await };
            kill_during(node, &mut random, Duration::from_millis(15), call).await;
            node.start_daemon().await;
            let state = node.cri.status(&id).await.unwrap().state();
            if state == ContainerState::ContainerCreated {
                node.cri.start(&id).await.unwrap();
            }
            let asked = until("it runs", 10, async || {
                node.cri.exec(&id, "echo on", 5).await.ok()
            })
            .await;
            assert_eq!(asked.stdout, b"on\n");
            node.cri.stop(&id, 10).await.unwrap();
        }
    });
}
