//! Pods under the systemd driver: one scope each, whatever happens, also under the other driver's daemon.

use super::*;
use crate::model::host::CgroupDriver;
use crate::model::pod_cgroup::SystemdTree;
use crate::model::resources::Resources;
use crate::task::fakes::HOLDER;

fn systemd() -> PodCgroups {
    PodCgroups::Systemd(SystemdTree {
        root: String::new(),
        cradles: "/corten/holders".to_owned(),
        asked_for: true,
    })
}

/// A pod as a kubelet with the systemd driver asks for it.
fn in_slice(name: &str) -> SandboxConfig {
    SandboxConfig {
        cgroup_parent: "/kubepods.slice/kubepods-poda.slice".to_owned(),
        ..pod(name)
    }
}

fn scope_of(id: &SandboxId) -> String {
    format!("/kubepods.slice/kubepods-poda.slice/corten-{id}.scope")
}

async fn bench() -> Bench {
    Bench::under(systemd(), Arc::default()).await
}

#[tokio::test]
async fn a_pod_is_one_scope_of_its_slice_held_by_its_holder() {
    let bench = bench().await;
    assert_eq!(bench.engine.cgroup_driver(), CgroupDriver::Systemd);
    let id = bench.run(in_slice("a")).await.unwrap();
    let scopes = bench.scopes.scopes();
    assert_eq!(scopes.len(), 1);
    assert_eq!(scopes[0].unit, format!("corten-{id}.scope"));
    assert_eq!(scopes[0].slice, "kubepods-poda.slice");
    assert_eq!(scopes[0].pid, HOLDER.0);
    assert!(bench.cgroups.has(&format!("{}/holder", scope_of(&id))));
    assert!(
        !bench.cgroups.has(&format!("/corten/holders/{id}")),
        "the cradle"
    );
    bench.engine.stop_pod_sandbox(id.as_str()).await.unwrap();
    assert_eq!(bench.scopes.scopes(), vec![]);
    assert!(!bench.cgroups.has(&format!("{}/holder", scope_of(&id))));
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    bench.assert_empty();
}

#[tokio::test]
async fn a_container_is_a_leaf_of_its_pods_scope() {
    let bench = bench().await;
    let id = bench.run(in_slice("a")).await.unwrap();
    let container = bench.create(&id, "main").await.unwrap();
    let record = bench.engine.container_status(container.as_str()).unwrap();
    assert_eq!(record.cgroup, format!("{}/{container}", scope_of(&id)));
}

#[tokio::test]
async fn a_scope_that_cannot_be_made_leaves_nothing() {
    let bench = bench().await;
    bench.scopes.refuse();
    let refused = bench.run(in_slice("a")).await.unwrap_err().chain();
    assert!(refused.contains("make the pod's scope"), "{refused}");
    bench.assert_empty();
}

#[tokio::test]
async fn a_pod_that_a_kill_left_half_made_is_undone_with_its_scope() {
    let bench = bench().await;
    let id = bench.run(in_slice("a")).await.unwrap();
    let mut record = bench.store.load().unwrap().sandboxes.remove(0);
    record.state = SandboxState::Creating;
    record.namespaces.holder = None;
    bench.store.save_sandbox(&record).unwrap();
    let bench = bench.restart_under(systemd()).await;
    assert_eq!(bench.scopes.scopes(), vec![], "of {id}");
    bench.assert_empty();
}

#[tokio::test]
async fn what_one_driver_made_the_others_daemon_finds_updates_and_ends() {
    let bench = bench().await;
    let scoped = bench.run(in_slice("a")).await.unwrap();
    let bench = bench.restart_under(PodCgroups::Cgroupfs).await;
    let plain = bench.run(pod("b")).await.unwrap();
    // A pod's containers are where its others are, whatever the driver is now.
    let container = bench.create(&scoped, "main").await.unwrap();
    let record = bench.engine.container_status(container.as_str()).unwrap();
    assert_eq!(record.cgroup, format!("{}/{container}", scope_of(&scoped)));
    let bench = bench.restart_under(systemd()).await;
    let container = bench.create(&plain, "main").await.unwrap();
    let record = bench.engine.container_status(container.as_str()).unwrap();
    assert_eq!(record.cgroup, format!("/corten/pods/{plain}/{container}"));
    let bench = bench.restart_under(PodCgroups::Cgroupfs).await;
    for id in [&scoped, &plain] {
        let status = bench.engine.pod_sandbox_status(id.as_str()).unwrap();
        assert_eq!(status.sandbox.state, SandboxState::Ready);
        bench.engine.stop_pod_sandbox(id.as_str()).await.unwrap();
        bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    }
    bench.assert_empty();
}

#[tokio::test]
async fn a_scope_of_an_earlier_boot_is_nobodys() {
    let bench = bench().await;
    let id = bench.run(in_slice("a")).await.unwrap();
    let mut record = bench.store.load().unwrap().sandboxes.remove(0);
    record.boot_id = "an earlier one".to_owned();
    bench.store.save_sandbox(&record).unwrap();
    let bench = bench.restart_under(systemd()).await;
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    assert_eq!(bench.sandboxes(), 0);
    assert_eq!(bench.scopes.scopes().len(), 1, "systemd was asked");
}

#[tokio::test]
async fn the_limits_of_a_pod_without_a_parent_are_below_its_scope() {
    let bench = bench().await;
    let id = bench.run(pod("a")).await.unwrap();
    let limits = Resources {
        memory_limit: 1 << 30,
        ..Resources::default()
    };
    let update = bench
        .engine
        .update_pod_sandbox_resources(id.as_str(), None, Some(limits));
    update.await.unwrap();
    let written = bench.cgroups.limits();
    let own = format!("/system.slice/corten-{id}.scope/pod");
    assert_eq!(written[0].0, own, "systemd resets those of the scope");
    let container = bench.create(&id, "main").await.unwrap();
    let record = bench.engine.container_status(container.as_str()).unwrap();
    assert_eq!(record.cgroup, format!("{own}/{container}"));
}

#[tokio::test]
async fn a_kubelet_with_the_other_driver_is_told_by_refusal_and_by_status() {
    let path = || SandboxConfig {
        cgroup_parent: "/kubepods/poda".to_owned(),
        ..pod("b")
    };
    for (driver, wrong, right) in [
        (systemd(), path(), in_slice("c")),
        (PodCgroups::Cgroupfs, in_slice("c"), path()),
    ] {
        let bench = Bench::under(driver, Arc::default()).await;
        assert!(bench.engine.status().cgroup_driver.ok);
        let refused = bench.run(wrong).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::FailedPrecondition);
        let told = bench.engine.status().cgroup_driver;
        assert_eq!((told.ok, &*told.reason), (false, "CgroupDriverMismatch"));
        assert_eq!(told.message, refused.to_string());
        assert!(
            bench.engine.status().runtime.ok,
            "pods may come that show the mend"
        );
        bench.run(pod("d")).await.unwrap();
        assert!(
            !bench.engine.status().cgroup_driver.ok,
            "it says nothing of a kubelet"
        );
        bench.run(right).await.unwrap();
        assert!(bench.engine.status().cgroup_driver.ok);
    }
}

#[tokio::test]
async fn a_parent_that_is_no_slice_is_refused_before_anything_is_made() {
    let bench = bench().await;
    let mut odd = pod("a");
    odd.cgroup_parent = "kubepods--x.slice".to_owned();
    let refused = bench.run(odd).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::InvalidArgument);
    bench.assert_empty();
}
