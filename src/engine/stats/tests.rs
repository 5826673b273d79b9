//! Readings over a fake of the cgroups.

use super::*;
use crate::cgroup::fakes::HostCgroups;
use crate::id::{ContainerId, Digest, ImageId};
use crate::model::container::{ContainerConfig, Exit};
use crate::model::resources::Resources;
use crate::store::fakes::a_sandbox;

fn container(sandbox: &Sandbox, state: ContainerState) -> Arc<ContainerCell> {
    let id = ContainerId::random();
    Arc::new(ContainerCell::new(Container {
        cgroup: format!("/pods/p/{id}"),
        id,
        sandbox_id: sandbox.id.clone(),
        config: ContainerConfig::default(),
        image_id: ImageId(Digest::from_hex(&"a".repeat(64)).unwrap()),
        image_volumes: [].into(),
        healthcheck: None,
        state,
        created_at: 1,
        started_at: 0,
        boot_id: String::new(),
        pid: 0,
        start_time: 0,
        stop_signal: 15,
        log_path: None,
        image_ref: String::new(),
        user: None,
        resources: Resources::default(),
    }))
}

fn using(cpu_ns: u64, pids: u64) -> CgroupUsage {
    CgroupUsage {
        cpu_ns,
        pids: Some(pids),
        ..CgroupUsage::default()
    }
}

#[test]
fn a_container_just_made_has_times_and_figures() {
    let cell = container(&a_sandbox("a"), ContainerState::Created);
    let cgroups = HostCgroups::default();
    cgroups.set(&cell.record().cgroup, using(7, 1));
    let stats = read_container(&cell, &cgroups).unwrap();
    assert!(stats.cpu.timestamp > 0 && stats.memory_timestamp > 0);
    assert_eq!((stats.cpu.usage_core_ns, stats.pids), (7, Some(1)));
    assert_eq!(stats.cpu.usage_nano_cores, None);
}

#[test]
fn one_that_ended_meanwhile_is_left_out_of_a_list() {
    let sandbox = a_sandbox("a");
    let running = container(&sandbox, ContainerState::Running);
    let ending = container(&sandbox, ContainerState::Running);
    let cgroups = HostCgroups::default();
    cgroups.set(&running.record().cgroup, using(1, 1));
    let read = read_containers(&[ending, Arc::clone(&running)], &cgroups);
    let ids: Vec<_> = read.into_iter().map(|stats| stats.id).collect();
    assert_eq!(ids, [running.record().id.clone()]);
}

#[test]
fn a_pod_counts_what_ended_containers_used_and_shows_the_living() {
    let sandbox = a_sandbox("a");
    let exit = Exit {
        code: 0,
        reason: "Completed".into(),
        message: String::new(),
        finished_at: 2,
    };
    let running = container(&sandbox, ContainerState::Running);
    let pod = Pod {
        containers: vec![
            container(&sandbox, ContainerState::Exited(exit)),
            Arc::clone(&running),
        ],
        cell: Arc::new(SandboxCell::new(sandbox)),
    };
    let cgroups = HostCgroups::default();
    cgroups.set("/pods/p", using(100, 3));
    cgroups.set(&running.record().cgroup, using(40, 3));
    let stats = pod.read(&cgroups).unwrap();
    assert_eq!(
        (stats.cpu.usage_core_ns, stats.process_count),
        (100, Some(3))
    );
    assert_eq!(stats.containers.len(), 1);
    assert!(stats.cpu.timestamp > 0);
}

#[test]
fn a_pod_without_containers_has_used_nothing() {
    let pod = Pod {
        containers: Vec::new(),
        cell: Arc::new(SandboxCell::new(a_sandbox("a"))),
    };
    let stats = pod.read(&HostCgroups::default()).unwrap();
    assert_eq!(stats.cpu.usage_core_ns, 0);
    assert!(stats.cpu.timestamp > 0 && stats.network.is_none());
}

#[test]
fn counters_are_read_only_in_the_pods_own_namespace() {
    let pid = i32::try_from(std::process::id()).unwrap();
    let own = std::path::Path::new("/proc/self/ns/net");
    let other = std::path::Path::new("/proc/self/ns/uts");
    // On a machine without any interface but loopback there is nothing to read.
    let there = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let expected = crate::model::stats::NetworkUsage::parse(&there, 1).is_some();
    assert_eq!(network::read(pid, own).is_some(), expected);
    assert!(network::read(pid, other).is_none());
    assert!(network::read(i32::MAX, own).is_none());
}

#[test]
fn a_layer_is_measured_once_in_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let layer = Layer::default();
    assert!(layer.is_due() && layer.usage().is_none());
    layer.measure(
        &crate::snapshot::fakes::Overlay::default(),
        directory.path(),
    );
    let usage = layer.usage().unwrap();
    assert!(usage.timestamp > 0);
    assert_eq!(Some(usage.mountpoint.as_path()), directory.path().parent());
    assert!(!layer.is_due());
}

#[test]
fn the_layer_of_one_that_has_ended_is_measured_once_after_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let exited = |finished_at| {
        let exit = Exit {
            code: 0,
            reason: "Completed".into(),
            message: String::new(),
            finished_at,
        };
        let state = ContainerState::Exited(exit);
        container(&a_sandbox("a"), state)
    };
    let (before, later) = (exited(1), exited(i64::MAX));
    for (cell, is_due) in [(before, false), (later, true)] {
        assert!(layers::is_due(&cell), "never measured");
        let snapshots = crate::snapshot::fakes::Overlay::default();
        cell.layer.measure(&snapshots, directory.path());
        assert_eq!(layers::is_due(&cell), is_due);
    }
    let creating = container(&a_sandbox("a"), ContainerState::Creating);
    assert!(!layers::is_due(&creating));
}

#[test]
fn what_is_counted_is_told_at_once_until_a_walk_finds_more() {
    let directory = tempfile::tempdir().unwrap();
    let (layer, snapshots) = (Layer::default(), crate::snapshot::fakes::Overlay::default());
    let told = || {
        layer
            .usage()
            .map(|usage| (usage.used_bytes, usage.inodes_used))
    };
    layer.count(&snapshots, directory.path());
    assert_eq!(told(), None, "nobody counts");
    let counted = |bytes, inodes| crate::unpack::Usage { bytes, inodes };
    for bytes in [1 << 20, 2 << 20, 0] {
        snapshots.count(counted(bytes, 5));
        layer.count(&snapshots, directory.path());
        assert_eq!(told(), Some((bytes, 5)));
    }
    // A walk finds 4096 bytes in one inode: about what is counted, which is told.
    layer.measure(&snapshots, directory.path());
    assert_eq!(told(), Some((0, 5)));
    snapshots.walk(counted(1 << 30, 9));
    layer.measure(&snapshots, directory.path());
    assert_eq!(told(), Some((1 << 30, 9)));
    layer.count(&snapshots, directory.path());
    assert_eq!(
        told(),
        Some((1 << 30, 9)),
        "what is counted is not believed"
    );
}

#[test]
fn one_thread_measures() {
    let turn = Measuring::default();
    assert!(turn.begin().is_some());
    assert!(turn.begin().is_none(), "two at a time");
}
