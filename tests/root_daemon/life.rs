//! The life of pods and containers, call by call.

use crate::node::in_a_node;
use crate::pods::{self, idle, shell, with_label};
use corten_proto::runtime::v1::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tonic::Code;

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_pod_is_run_stopped_and_removed() {
    in_a_node(async |node| {
        let config = with_label(pods::pod("pod"), "app", "a");
        let pod = node.run(config.clone()).await;
        assert_eq!(pod.id.len(), 64);
        let ready = node.cri.pod_status(&pod.id).await.unwrap();
        assert_eq!(ready.state(), PodSandboxState::SandboxReady);
        assert_eq!(
            (ready.metadata, ready.labels),
            (config.metadata, config.labels)
        );
        assert!(ready.created_at > 0);
        assert!(ready.network.unwrap().ip.starts_with("10.77."));
        for _ in 0..2 {
            node.cri.stop_pod(&pod.id).await.unwrap();
            let stopped = node.cri.pod_status(&pod.id).await.unwrap();
            assert_eq!(stopped.state(), PodSandboxState::SandboxNotready);
        }
        let refusal = node.cri.create(&pod, &idle("late")).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
        for _ in 0..2 {
            node.cri.remove_pod(&pod.id).await.unwrap();
            let refusal = node.cri.pod_status(&pod.id).await.unwrap_err();
            assert_eq!(refusal.code(), Code::NotFound, "{refusal}");
        }
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_is_created_started_and_ends() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let config = shell("c", "exit 7");
        let id = node.cri.create(&pod, &config).await.unwrap();
        let created = node.cri.status(&id).await.unwrap();
        assert_eq!(created.state(), ContainerState::ContainerCreated);
        assert_eq!((created.started_at, created.finished_at), (0, 0));
        assert_eq!(created.metadata, config.metadata);
        assert!(
            created.image_id.starts_with("sha256:"),
            "{}",
            created.image_id
        );
        node.cri.start(&id).await.unwrap();
        let ended = node.cri.ended(&id).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
        assert!(ended.created_at <= ended.started_at && ended.started_at <= ended.finished_at);
        let refusal = node.cri.start(&id).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
        let refusal = node.cri.exec(&id, "true", 5).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_that_succeeds_is_completed() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let id = node.launch(&pod, shell("c", "true")).await;
        let ended = node.cri.ended(&id).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (0, "Completed"));
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_stop_is_obeyed_and_its_code_kept() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let script = "trap 'exit 5' TERM; echo ready; tail -f /dev/null & wait";
        let id = node.launch(&pod, shell("c", script)).await;
        node.await_ready(&id).await;
        let begun = Instant::now();
        node.cri.stop(&id, 60).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "it obeyed and was not killed"
        );
        let ended = node.cri.status(&id).await.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_str()), (5, "Error"));
        node.cri.stop(&id, 60).await.unwrap();
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_stop_that_is_not_obeyed_kills_after_the_grace() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let script = "trap 'echo no' TERM; echo ready; while :; do tail -f /dev/null & wait; done";
        let id = node.launch(&pod, shell("c", script)).await;
        node.await_ready(&id).await;
        let begun = Instant::now();
        node.cri.stop(&id, 1).await.unwrap();
        assert!(
            begun.elapsed() >= Duration::from_secs(1),
            "the grace was given"
        );
        let ended = node.cri.status(&id).await.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_containers_are_removed_in_any_state() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let created = node.cri.create(&pod, &idle("created")).await.unwrap();
        let running = node.launch(&pod, idle("running")).await;
        let exited = node.launch(&pod, shell("exited", "true")).await;
        node.cri.ended(&exited).await;
        for id in [&created, &running, &exited] {
            node.cri.remove(id).await.unwrap();
            node.cri.remove(id).await.unwrap();
            let refusal = node.cri.status(id).await.unwrap_err();
            assert_eq!(refusal.code(), Code::NotFound, "{refusal}");
        }
        assert_eq!(node.cri.containers().await, []);
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_pod_is_removed_with_what_runs_in_it() {
    in_a_node(async |node| {
        let (pod, _) = node.idle().await;
        node.cri.create(&pod, &idle("second")).await.unwrap();
        node.cri.remove_pod(&pod.id).await.unwrap();
        assert_eq!(node.cri.containers().await, []);
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_what_does_not_exist_is_stopped_and_removed_but_not_found() {
    in_a_node(async |node| {
        let cri = &node.cri;
        cri.stop_pod(UNKNOWN).await.unwrap();
        cri.remove_pod(UNKNOWN).await.unwrap();
        cri.stop(UNKNOWN, 1).await.unwrap();
        cri.remove(UNKNOWN).await.unwrap();
        let refusals = [
            cri.pod_status(UNKNOWN).await.unwrap_err(),
            cri.status(UNKNOWN).await.unwrap_err(),
            cri.start(UNKNOWN).await.unwrap_err(),
            cri.exec(UNKNOWN, "true", 1).await.unwrap_err(),
            cri.reopen_log(UNKNOWN).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code(), Code::NotFound, "{refusal}");
        }
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_lists_hold_what_was_asked_for() {
    in_a_node(async |node| {
        let a = node.run(with_label(pods::pod("a"), "app", "a")).await;
        let b = node.run(with_label(pods::pod("b"), "app", "b")).await;
        node.cri.stop_pod(&b.id).await.unwrap();
        let label = |value: &str| HashMap::from([("app".to_owned(), value.to_owned())]);
        let filters = [
            PodSandboxFilter {
                id: a.id.clone(),
                ..Default::default()
            },
            PodSandboxFilter {
                id: a.id[..13].to_owned(),
                ..Default::default()
            },
            PodSandboxFilter {
                label_selector: label("a"),
                ..Default::default()
            },
            PodSandboxFilter {
                state: Some(PodSandboxStateValue {
                    state: PodSandboxState::SandboxReady.into(),
                }),
                ..Default::default()
            },
        ];
        for filter in filters {
            let found = node.cri.pods_like(filter.clone()).await;
            let ids: Vec<_> = found.iter().map(|pod| &pod.id).collect();
            assert_eq!(ids, [&a.id], "{filter:?}");
        }
        let nothing = PodSandboxFilter {
            id: a.id.clone(),
            label_selector: label("b"),
            ..Default::default()
        };
        assert_eq!(
            node.cri.pods_like(nothing).await,
            [],
            "all of a filter must match"
        );
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_lists_of_containers_hold_what_was_asked_for() {
    in_a_node(async |node| {
        let (a, running) = node.idle().await;
        let b = node.run(pods::pod("b")).await;
        let mut config = idle("created");
        config.labels.insert("app".to_owned(), "b".to_owned());
        let created = node.cri.create(&b, &config).await.unwrap();
        let state = |state: ContainerState| ContainerFilter {
            state: Some(ContainerStateValue {
                state: state.into(),
            }),
            ..Default::default()
        };
        let of_pod = |pod: &str| ContainerFilter {
            pod_sandbox_id: pod.to_owned(),
            ..Default::default()
        };
        let cases = [
            (state(ContainerState::ContainerRunning), &running),
            (state(ContainerState::ContainerCreated), &created),
            (of_pod(&a.id), &running),
            (of_pod(&b.id), &created),
            (
                ContainerFilter {
                    id: running.clone(),
                    ..Default::default()
                },
                &running,
            ),
            (
                ContainerFilter {
                    label_selector: config.labels.clone(),
                    ..Default::default()
                },
                &created,
            ),
        ];
        for (filter, expected) in cases {
            let found = node.cri.containers_like(filter.clone()).await;
            let ids: Vec<_> = found.iter().map(|container| &container.id).collect();
            assert_eq!(ids, [expected], "{filter:?}");
        }
    });
}
