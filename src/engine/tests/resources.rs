//! New limits: all of them, or those that were there before; and a restart remembers which.

use super::*;
use crate::model::resources::Resources;

fn memory(bytes: i64) -> Resources {
    Resources {
        memory_limit: bytes,
        ..Resources::default()
    }
}

/// What the last update but `skip` set the memory limit to.
fn limit(updates: &[String], skip: usize) -> Option<i64> {
    let last = updates.iter().rev().nth(skip)?;
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    last["memory"]["limit"].as_i64()
}

impl Bench {
    fn memory_limit(&self, id: &ContainerId) -> i64 {
        let container = self.engine.container_status(id.as_str()).unwrap();
        container.resources.memory_limit
    }
}

#[tokio::test]
async fn a_containers_new_limits_are_told_also_after_a_restart() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    let update = |limits| bench.engine.update_container_resources(id.as_str(), limits);
    update(memory(1 << 30)).await.unwrap();
    assert_eq!(limit(&bench.tasks.updates(), 0), Some(1 << 30));
    assert_eq!(bench.restart().await.memory_limit(&id), 1 << 30);
}

#[tokio::test]
async fn limits_that_are_refused_are_not_told() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    bench.tasks.refuse("update");
    let update = bench
        .engine
        .update_container_resources(id.as_str(), memory(1 << 30));
    assert!(update.await.is_err());
    assert_eq!(bench.memory_limit(&id), 0);
}

#[tokio::test]
async fn limits_that_cannot_be_remembered_are_set_back() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    let update = |limits| bench.engine.update_container_resources(id.as_str(), limits);
    update(memory(1 << 30)).await.unwrap();
    bench.store.fill();
    assert!(update(memory(2 << 30)).await.is_err());
    let updates = bench.tasks.updates();
    assert_eq!(
        (limit(&updates, 1), limit(&updates, 0)),
        (Some(2 << 30), Some(1 << 30))
    );
    assert_eq!(bench.memory_limit(&id), 1 << 30);
}

#[tokio::test]
async fn a_pods_limits_are_kept_and_written_only_to_a_cgroup_of_cortens_own() {
    let bench = Bench::new().await;
    let mut of_the_kubelet = pod("a");
    of_the_kubelet.cgroup_parent = "/kubepods/poda".to_owned();
    let ids = [
        bench.run(of_the_kubelet).await.unwrap(),
        bench.run(pod("b")).await.unwrap(),
    ];
    for id in &ids {
        let update = bench.engine.update_pod_sandbox_resources(
            id.as_str(),
            Some(memory(1 << 20)),
            Some(memory(1 << 30)),
        );
        update.await.unwrap();
    }
    let written = bench.cgroups.limits();
    let cgroups: Vec<_> = written.iter().map(|(cgroup, _)| cgroup.as_str()).collect();
    assert_eq!(cgroups, [format!("/corten/pods/{}", ids[1])]);
    assert_eq!(
        limit(&[written[0].1.clone()], 0),
        Some((1 << 30) + (1 << 20))
    );
    let bench = bench.restart().await;
    for sandbox in bench.engine.list_pod_sandbox(&SandboxFilter::default()) {
        assert_eq!(sandbox.config.resources, Some(memory(1 << 30)));
        assert_eq!(sandbox.config.overhead, Some(memory(1 << 20)));
    }
}
