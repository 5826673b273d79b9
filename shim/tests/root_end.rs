//! How containers end, and what a shim does meanwhile. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "create/container.rs"]
#[expect(dead_code, reason = "shared with other tiers, which use the rest")]
mod container;

use container::{Bundle, cgroups, until};
use corten_shim::api::Request;
use corten_shim::cgroup::Cgroup;
use serde_json::json;
use std::time::{Duration, Instant};

/// The stage waits for its seccomp filter, which is a pipe, when the kernel kills it for want of
/// memory.
#[test]
#[ignore = "needs root"]
fn root_a_stage_that_is_killed_leaves_no_cgroup() {
    let mut bundle = Bundle::new("exit 0");
    let filter = bundle.path("filter");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &filter,
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    bundle.filter = Some(filter);
    let failure = std::thread::scope(|scope| {
        let creation = scope.spawn(|| bundle.create().err());
        let mut shims = Vec::new();
        until("there is a shim and its stage", || {
            shims = processes_of(bundle.id());
            shims.len() == 2 && !cgroups(bundle.id()).is_empty()
        });
        // The later one.
        let stage = rustix::process::Pid::from_raw(*shims.iter().max().unwrap()).unwrap();
        rustix::process::kill_process(stage, rustix::process::Signal::KILL).unwrap();
        creation.join().unwrap()
    });
    assert!(failure.unwrap().to_string().contains("without a word"));
    assert!(cgroups(bundle.id()).is_empty());
}

/// The freezer has a file of that name, below which nothing can be made: those before it are undone.
#[test]
#[ignore = "needs root"]
fn root_a_cgroup_is_made_in_all_hierarchies_or_in_none() {
    let name = format!("corten-halves-{}", std::process::id());
    if Cgroup::find("/x").unwrap().pure_v2().is_some() {
        return;
    }
    Cgroup::make(&format!("/{name}/freezer.state/y")).unwrap_err();
    let made = cgroups(&name);
    let left = made
        .iter()
        .any(|path| path.join("freezer.state/y").exists());
    Cgroup::find(&format!("/{name}")).unwrap().remove().unwrap();
    assert!(!left, "{made:?}");
}

/// The processes whose arguments name a container.
fn processes_of(id: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == id.as_bytes())
    };
    pids.filter(names).collect()
}

/// Without a PID namespace of its own, nobody but the shim ends what the init has left behind.
#[test]
#[ignore = "needs root"]
fn root_who_outlives_the_init_holds_no_call_up() {
    let mut bundle = Bundle::new("sleep 1000 >/dev/null 2>&1 & exit 0");
    bundle.set("/linux/namespaces", json!([{"type": "mount"}]));
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    assert_eq!(container.exited().code, 0);
    let begin = Instant::now();
    container.call(Request::Health).0.unwrap();
    container.shut();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(cgroups(bundle.id()).is_empty());
}
