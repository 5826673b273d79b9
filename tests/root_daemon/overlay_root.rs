//! The root is on an overlayfs, as that of a container is which has no volume for it.

use crate::node::{Node, in_a_node};
use crate::pods;
use crate::wait::{until, until_true};
use corten_proto::runtime::v1::{RuntimeCondition, StatusRequest};
use std::process::Command;

const ROOT: &str = "/var/lib/corten";
const LAYERS: &str = "/var/lib/corten/layers";

fn done(command: &mut Command) -> bool {
    command.status().unwrap().success()
}

/// Puts an overlayfs over this directory, which shows what was there, and starts the daemon on it.
async fn start_on_overlay(node: &mut Node, directory: &str) -> RuntimeCondition {
    node.kill_daemon();
    let place = |name: &str| {
        let place = node.scratch.join("cover").join(name);
        std::fs::create_dir_all(&place).unwrap();
        place.display().to_string()
    };
    let (upper, work) = (place("upper"), place("work"));
    let options = format!("lowerdir={directory},upperdir={upper},workdir={work}");
    let mut mount = Command::new("mount");
    mount.args(["-t", "overlay", "overlay", "-o", &options, directory]);
    assert!(done(&mut mount), "{mount:?}");
    node.daemon.start_again();
    runtime_ready(node).await
}

/// Takes it away again, and starts the daemon on what was there.
async fn uncover(node: &mut Node, directory: &str) -> RuntimeCondition {
    node.remove_all().await;
    node.kill_daemon();
    let is_gone = async || done(Command::new("umount").arg(directory));
    until_true("nobody has the overlayfs open", 30, is_gone).await;
    std::fs::remove_dir_all(node.scratch.join("cover")).unwrap();
    node.start_daemon().await;
    runtime_ready(node).await
}

/// What the daemon says that has just been started.
async fn runtime_ready(node: &mut Node) -> RuntimeCondition {
    let Node { daemon, cri, .. } = node;
    until("the daemon answers", 30, async || {
        daemon.assert_alive();
        let answer = cri.runtime().status(StatusRequest::default()).await.ok()?;
        let conditions = answer.into_inner().status?.conditions;
        conditions.into_iter().find(|c| c.r#type == "RuntimeReady")
    })
    .await
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_daemon_on_an_overlayfs_serves_and_says_what_it_wants() {
    in_a_node(async |node| {
        let told = start_on_overlay(node, ROOT).await;
        assert!(!told.status, "{told:?}");
        assert_eq!(told.reason, "SnapshotterNotReady");
        for words in [ROOT, "is on an overlayfs", "--volume /var", "`root`"] {
            assert!(told.message.contains(words), "{words}: {}", told.message);
        }
        // It is right: the kernel does not take it.
        let pod = node.run(pods::pod("pod")).await;
        let refused = node.cri.create(&pod, &pods::idle("c")).await.unwrap_err();
        assert!(refused.message().contains("overlay"), "{refused:?}");
        let told = uncover(node, ROOT).await;
        assert!(told.status, "{told:?}");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_layers_alone_on_an_overlayfs_will_do() {
    in_a_node(async |node| {
        let told = start_on_overlay(node, LAYERS).await;
        assert!(told.status, "{told:?}");
        let pod = node.run(pods::pod("pod")).await;
        node.launch(&pod, pods::idle("c")).await;
        let told = uncover(node, LAYERS).await;
        assert!(told.status, "{told:?}");
    });
}
