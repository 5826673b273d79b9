//! What a create, a start and an exec take, from the start of the shim's process on. Prints medians;
//! needs root and, to mean anything, an idle machine and a release build in `$CORTEN_SHIM`.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "create/container.rs"]
#[expect(dead_code, reason = "shared with other tiers, which use the rest")]
mod container;

use container::Bundle;
use serde_json::json;
use std::time::{Duration, Instant};

const ROUNDS: usize = 100;

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
#[ignore = "needs root, and measures"]
fn root_bench_create_start_exec() {
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    );
    bundle.set(
        "/linux/maskedPaths",
        json!([
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/proc/scsi",
            "/sys/firmware"
        ]),
    );
    bundle.set(
        "/linux/readonlyPaths",
        json!([
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger"
        ]),
    );
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864}));
    let (mut creates, mut starts, mut execs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bundle.renew();
        let begin = Instant::now();
        let mut container = bundle.create().unwrap();
        creates.push(begin.elapsed());
        let begin = Instant::now();
        container.start().unwrap();
        starts.push(begin.elapsed());
        let begin = Instant::now();
        assert_eq!(
            container.exec(&["/bin/true"], &json!({})).exited(),
            (0, false)
        );
        execs.push(begin.elapsed());
        container.shut();
    }
    println!(
        "create with the shim's start {:?}, start {:?}, exec {:?}",
        median(creates),
        median(starts),
        median(execs)
    );
}

/// Of each of these floods: lines of 16 KiB without a newline, and lines of one byte.
const FLOODS: [(&str, u64); 2] = [
    ("exec head -c 300000000 /dev/zero", 300_000_000),
    ("yes | head -c 4000000", 4_000_000),
];

#[test]
#[ignore = "needs root, and measures"]
fn root_bench_log() {
    for (script, bytes) in FLOODS {
        let bundle = Bundle::new(script);
        let mut rates = Vec::new();
        for _ in 0..7 {
            bundle.renew();
            let mut container = bundle.create().unwrap();
            let begin = Instant::now();
            container.start().unwrap();
            assert_eq!(container.exited().code, 0);
            rates.push(bytes as f64 / begin.elapsed().as_secs_f64() / 1e6);
            container.shut();
        }
        rates.sort_unstable_by(f64::total_cmp);
        println!("{script:?}: {:.0} MB/s", rates[rates.len() / 2]);
    }
}
