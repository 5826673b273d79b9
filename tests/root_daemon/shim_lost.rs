//! A shim that is killed takes its container with it, and nothing else; one that is told to end does so with its container.

use crate::node::in_a_node;
use crate::pods::{self, idle};
use crate::processes;
use crate::wait::until_true;
use corten_proto::runtime::v1::*;

fn assert_ended_unseen(status: &ContainerStatus) {
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    assert!(status.message.contains("shim"), "{}", status.message);
    assert!(status.finished_at > 0);
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_killed_shim_ends_its_container() {
    in_a_node(async |node| {
        let (pod, id) = node.idle().await;
        let other = node.launch(&pod, idle("other")).await;
        let pid = node.cri.pid(&id).await;
        processes::kill(processes::shim_of(&id).unwrap().pid);
        let status = node.cri.ended(&id).await;
        assert_ended_unseen(&status);
        until_true("its processes end", 5, async || !processes::lives(pid)).await;
        node.cri.stop(&id, 5).await.unwrap();
        node.cri.remove(&id).await.unwrap();
        assert_eq!(node.cri.ask(&other, "echo on").await, "on");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_shim_killed_while_there_is_no_daemon_ends_its_container_too() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let pid = node.cri.pid(&id).await;
        node.kill_daemon();
        processes::kill(processes::shim_of(&id).unwrap().pid);
        node.start_daemon().await;
        assert_ended_unseen(&node.cri.ended(&id).await);
        until_true("its processes end", 5, async || !processes::lives(pid)).await;
        node.kill_daemon();
        node.start_daemon().await;
        assert_ended_unseen(&node.cri.status(&id).await.unwrap());
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_shim_killed_before_the_start_leaves_nothing_that_runs() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let id = node.cri.create(&pod, &idle("c")).await.unwrap();
        let pid = node.cri.pid(&id).await;
        processes::kill(processes::shim_of(&id).unwrap().pid);
        assert_ended_unseen(&node.cri.ended(&id).await);
        until_true("its processes end", 5, async || !processes::lives(pid)).await;
        node.cri.start(&id).await.unwrap_err();
    });
}

/// As on a host that shuts down, which waits for all processes: each is told to end, and there is no daemon.
#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_shim_that_is_told_to_end_goes_with_its_container() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let (pid, shim) = (node.cri.pid(&id).await, processes::shim_of(&id).unwrap());
        node.kill_daemon();
        processes::terminate(shim.pid);
        processes::kill(pid);
        until_true("its shim ends", 20, async || !processes::lives(shim.pid)).await;
        node.start_daemon().await;
        let status = node.cri.ended(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    });
}
