//! Limits of containers, and their ends. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "create/container.rs"]
#[expect(dead_code, reason = "shared with other tiers, which use the rest")]
mod container;

use container::{Bundle, cgroups, until};
use corten_shim::api::FailureKind;
use serde_json::json;
use std::path::Path;

fn lines(output: &str) -> Vec<&str> {
    output.lines().collect()
}

#[test]
#[ignore = "needs root"]
fn root_limits_are_in_force() {
    let mut bundle = Bundle::new(
        "ulimit -n; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    );
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["ro", "nosuid", "noexec", "nodev"],
    );
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1_000_000_000}]),
    );
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 67_108_864, "swap": 67_108_864}),
    );
    bundle.set(
        "/linux/resources/cpu",
        json!({"shares": 512, "quota": 50000, "period": 100_000}),
    );
    bundle.set("/linux/resources/pids", json!({"limit": 77}));
    let (output, _) = bundle.run();
    if Path::new("/sys/fs/cgroup/memory").exists() {
        assert_eq!(lines(&output), ["512", "77", "67108864", "512", "50000"]);
    }
    let mut impossible = Bundle::new("true");
    impossible.set("/linux/resources/cpu", json!({"cpus": "4000"}));
    let failure = impossible.create().err().unwrap();
    assert!(
        failure.step.contains("cpuset.cpus") && failure.step.contains("4000"),
        "{failure}"
    );
    assert_eq!(cgroups(impossible.id()).len(), 0);
}

#[test]
#[ignore = "needs root"]
fn root_limits_change_while_it_runs() {
    let mut bundle = Bundle::new("sleep 1000");
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 67_108_864, "swap": 67_108_864}),
    );
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let update = |resources: &str| corten_shim::api::Request::Update {
        resources: resources.to_owned(),
    };
    container
        .call(update(
            r#"{"memory":{"limit":134217728,"swap":134217728},"cpu":{"shares":2048}}"#,
        ))
        .0
        .unwrap();
    container
        .call(update(r#"{"memory":{"limit":33554432,"swap":33554432}}"#))
        .0
        .unwrap();
    let read = |file: &str| {
        cgroups(bundle.id())
            .iter()
            .find_map(|path| std::fs::read_to_string(path.join(file)).ok())
    };
    if let Some(limit) = read("memory.limit_in_bytes").or_else(|| read("memory.max")) {
        assert_eq!(limit.trim(), "33554432");
    }
    let refused = container.call(update("{")).0.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Invalid);
}

#[test]
#[ignore = "needs root"]
fn root_an_update_is_whole_or_nothing() {
    const FILES: [&str; 8] = [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
        "memory.max",
        "memory.swap.max",
        "cpu.max",
        "cpuset.cpus",
    ];
    let mut bundle = Bundle::new("sleep 1000");
    bundle.set(
        "/linux/resources",
        json!({"memory": {"limit": 67_108_864, "swap": 67_108_864}, "cpu": {"quota": 50_000, "period": 100_000}}),
    );
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let now = || {
        let all = cgroups(bundle.id());
        let read = |file: &&str| {
            let text = all
                .iter()
                .find_map(|path| std::fs::read_to_string(path.join(file)).ok());
            text.map(|text| format!("{file}={}", text.trim()))
        };
        FILES.iter().filter_map(read).collect::<Vec<_>>()
    };
    let at_first = now();
    let mut update = |resources: serde_json::Value| {
        let resources = resources.to_string();
        container
            .call(corten_shim::api::Request::Update { resources })
            .0
    };
    // Growing and shrinking both, in either relation between quota and period.
    for (bytes, quota, period) in [
        (268_435_456, 5_000, 10_000),
        (33_554_432, 900_000, 1_000_000),
        (67_108_864, 50_000, 100_000),
    ] {
        update(json!({"memory": {"limit": bytes, "swap": bytes},
            "cpu": {"quota": quota, "period": period}}))
        .unwrap();
    }
    assert_eq!(now(), at_first);
    // The last one is refused: none of the others stays.
    let refused = update(
        json!({"memory": {"limit": 134_217_728, "swap": 134_217_728},
        "cpu": {"quota": 70_000, "period": 100_000, "cpus": "4000"}}),
    )
    .unwrap_err();
    assert_eq!(refused.step, "set cpuset.cpus to 4000");
    assert_eq!(now(), at_first);
}

#[test]
#[ignore = "needs root"]
fn root_a_fork_bomb_ends_with_its_container() {
    // Twenty lines of processes that each make the next one and end: none is there for long. In
    // the host's PID namespace, where the end of the init does not end the rest.
    let script = "next() { next & }; for line in $(seq 20); do next & done; sleep 1000";
    let mut bundle = Bundle::new(script);
    bundle.spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "ipc"}]);
    bundle.set("/linux/resources/pids", json!({"limit": 500}));
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let count = || {
        let all = cgroups(bundle.id()).into_iter();
        let procs =
            all.map(|path| std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default());
        procs.map(|procs| procs.lines().count()).max().unwrap_or(0)
    };
    until("the bomb goes off", || count() > 10);
    container.shut();
    assert_eq!(cgroups(bundle.id()).len(), 0);
}
