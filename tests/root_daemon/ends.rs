//! How containers end: starts that fail, signals, memory.

use crate::node::in_a_node;
use crate::pods::{self, idle, in_namespaces, joined, shell, with_memory};
use corten_proto::runtime::v1::*;

const LIMIT: i64 = 16 << 20;

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_program_that_is_not_there_fails_the_start() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let mut config = idle("c");
        config.command = vec!["/no/such/program".to_owned()];
        let id = node.cri.create(&pod, &config).await.unwrap();
        let refusal = node.cri.start(&id).await.unwrap_err();
        assert!(refusal.message().contains("/no/such/program"), "{refusal}");
        let ended = node.cri.status(&id).await.unwrap();
        assert_eq!(ended.state(), ContainerState::ContainerExited);
        assert_eq!(
            (ended.exit_code, ended.reason.as_str()),
            (128, "StartError")
        );
        assert!(ended.finished_at > 0);
        assert!(
            ended.message.contains("/no/such/program"),
            "{}",
            ended.message
        );
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_program_that_cannot_be_executed_fails_the_start() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let mut config = idle("c");
        config.command = vec!["/etc/passwd".to_owned()];
        let id = node.cri.create(&pod, &config).await.unwrap();
        node.cri.start(&id).await.unwrap_err();
        let ended = node.cri.status(&id).await.unwrap();
        assert_eq!(
            (ended.exit_code, ended.reason.as_str()),
            (128, "StartError")
        );
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_an_image_that_is_not_there_fails_the_create_and_leaves_nothing() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let mut config = idle("c");
        config.image.as_mut().unwrap().image = "localhost/no-such-image:1".to_owned();
        let refusal = node.cri.create(&pod, &config).await.unwrap_err();
        assert!(refusal.message().contains("no-such-image"), "{refusal}");
        assert_eq!(node.cri.containers().await, []);
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_an_end_by_signal_is_128_and_its_number() {
    in_a_node(async |node| {
        let shared = NamespaceOption {
            pid: NamespaceMode::Pod.into(),
            ..Default::default()
        };
        let pod = node.run(in_namespaces(pods::pod("pod"), shared)).await;
        for (signal, code) in [("TERM", 143), ("KILL", 137), ("USR1", 138)] {
            let script = format!("kill -{signal} $$; tail -f /dev/null");
            let container = joined(shell(&signal.to_lowercase(), &script), &pod.config);
            let id = node.launch(&pod, container).await;
            let ended = node.cri.ended(&id).await;
            assert_eq!((ended.exit_code, ended.reason.as_str()), (code, "Error"));
        }
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_memory_beyond_the_limit_is_oom_killed() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let hungry = shell(
            "hungry",
            "exec dd if=/dev/zero of=/dev/null bs=128M count=1",
        );
        let id = node.launch(&pod, with_memory(hungry, LIMIT)).await;
        let ended = node.cri.ended(&id).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_kill_of_a_container_with_a_limit_is_no_oom() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let id = node.launch(&pod, with_memory(idle("c"), LIMIT)).await;
        node.cri.stop(&id, 0).await.unwrap();
        let ended = node.cri.status(&id).await.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_memory_limit_is_in_force_and_shown() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let id = node.launch(&pod, with_memory(idle("c"), LIMIT)).await;
        let v1 = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        let limit = format!("cat {v1} 2>/dev/null || cat /sys/fs/cgroup/memory.max");
        assert_eq!(node.cri.ask(&id, &limit).await, LIMIT.to_string());
        let status = node.cri.status(&id).await.unwrap();
        let linux = status.resources.and_then(|resources| resources.linux);
        assert_eq!(linux.map(|linux| linux.memory_limit_in_bytes), Some(LIMIT));
    });
}
