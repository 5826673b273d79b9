//! `kill -9` of the daemon and a start: containers neither notice nor are forgotten.

use crate::logs::{self, COUNT, assert_gapless, numbers};
use crate::node::{Node, in_a_node};
use crate::pods::{self, Pod, gated, idle, log_path, shell};
use crate::processes;
use crate::wait::until_true;
use corten_proto::runtime::v1::*;
use futures::future::join_all;
use std::fs;
use std::path::Path;

const PODS: usize = 20;
/// What the last pods' containers end with while there is no daemon.
const CODES: [i32; 3] = [3, 4, 5];

/// A pod with one container that counts.
struct Counter {
    pod: Pod,
    id: String,
    pid: u32,
    ip: String,
    log: String,
}

async fn counter(node: &Node, number: usize) -> Counter {
    let name = format!("pod-{number}");
    let pod = node.run(pods::pod(&name)).await;
    let container = gated(shell("count", COUNT), &node.gate(&name));
    let id = node.launch(&pod, container).await;
    Counter {
        pid: node.cri.pid(&id).await,
        ip: node.cri.ip(&pod.id).await,
        log: log_path(&pod.config, "count"),
        pod,
        id,
    }
}

/// Waits until every counter has written `more` lines than now.
async fn until_grown(counters: &[Counter], more: usize) {
    for counter in counters {
        let now = logs::read(&counter.log).len();
        let grown = async || logs::read(&counter.log).len() >= now + more;
        until_true("the log grows", 20, grown).await;
    }
}

/// Lets the containers end, each with its code, and waits until nothing of them runs.
async fn end_unseen(node: &Node, counters: &[Counter]) {
    for (counter, code) in counters.iter().zip(CODES) {
        let name = &counter.pod.config.metadata.as_ref().unwrap().name;
        fs::write(node.gate(name).join("end.new"), format!("{code}\n")).unwrap();
        fs::rename(node.gate(name).join("end.new"), node.gate(name).join("end")).unwrap();
    }
    for counter in counters {
        let record = Path::new("/var/lib/corten/containers")
            .join(&counter.id)
            .join("exit.json");
        let ended = async || !processes::lives(counter.pid) && record.exists();
        until_true("it ended, and its end is on record", 20, ended).await;
    }
}

async fn assert_goes_on(node: &Node, counter: &Counter) {
    let status = node.cri.status(&counter.id).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    assert_eq!(node.cri.pid(&counter.id).await, counter.pid);
    assert_eq!(node.cri.ip(&counter.pod.id).await, counter.ip);
    assert_eq!(
        node.cri.ask(&counter.id, "hostname").await,
        counter.pod.config.hostname
    );
}

async fn assert_stops(node: &Node, counter: &Counter) {
    node.cri.stop(&counter.id, 20).await.unwrap();
    let ended = node.cri.status(&counter.id).await.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_str()), (0, "Completed"));
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_twenty_pods_outlive_the_daemon() {
    in_a_node(async |node| {
        let counters = join_all((0..PODS).map(|number| counter(node, number))).await;
        let (staying, ending) = counters.split_at(PODS - CODES.len());
        until_grown(&counters, 5).await;

        node.kill_daemon();
        end_unseen(node, ending).await;
        until_grown(staying, 20).await;
        node.start_daemon().await;

        assert_eq!(node.cri.pods().await.len(), PODS);
        for (counter, code) in ending.iter().zip(CODES) {
            let status = node.cri.status(&counter.id).await.unwrap();
            assert_eq!((status.exit_code, status.reason.as_str()), (code, "Error"));
            assert!(status.started_at < status.finished_at);
        }
        join_all(staying.iter().map(|counter| assert_goes_on(node, counter))).await;
        until_grown(staying, 5).await;
        join_all(staying.iter().map(|counter| assert_stops(node, counter))).await;
        for counter in &counters {
            assert_gapless(&counter.log, &numbers(&counter.log));
        }
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_every_state_outlives_the_daemon() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let stopped = node.run(pods::pod("stopped")).await;
        node.cri.stop_pod(&stopped.id).await.unwrap();
        let created = node.cri.create(&pod, &idle("created")).await.unwrap();
        let exited = node.launch(&pod, shell("exited", "exit 9")).await;
        let before = node.cri.ended(&exited).await;

        node.kill_daemon();
        node.start_daemon().await;

        assert_eq!(node.cri.status(&exited).await.unwrap(), before);
        let status = node.cri.pod_status(&stopped.id).await.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxNotready);
        node.cri.start(&created).await.unwrap();
        assert_eq!(node.cri.ask(&created, "echo hello").await, "hello");
        let again = node.cri.run_pod(&pod.config).await.unwrap();
        assert_eq!(again, pod.id, "its key is known");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_an_end_after_the_restart_is_seen() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let gate = node.gate("c");
        let id = node.launch(&pod, gated(shell("c", COUNT), &gate)).await;
        node.kill_daemon();
        node.start_daemon().await;
        fs::write(gate.join("end.new"), "6\n").unwrap();
        fs::rename(gate.join("end.new"), gate.join("end")).unwrap();
        assert_eq!(node.cri.ended(&id).await.exit_code, 6);
        let path = log_path(&pod.config, "c");
        assert_gapless(&path, &numbers(&path));
    });
}
