//! Metrics over the fakes: whose they are, and what is left out.

use super::*;
use crate::model::cgroup_detail::CgroupDetail;
use crate::model::pod_metrics::{Sample, families as f};
use crate::model::stats::CgroupUsage;

fn using(seconds: u64) -> CgroupDetail {
    CgroupDetail {
        usage: CgroupUsage {
            cpu_ns: seconds * 1_000_000_000,
            ..CgroupUsage::default()
        },
        ..CgroupDetail::default()
    }
}

fn cpu_seconds(of: &[Sample]) -> u64 {
    let found = of.iter().find(|sample| sample.family == &f::CPU_USAGE);
    found.unwrap().value
}

#[tokio::test]
async fn a_pod_and_its_container_are_told_apart_and_named_as_kubernetes_does() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    let container = bench.engine.container_status(id.as_str()).unwrap();
    let (above, _) = container.cgroup.rsplit_once('/').unwrap();
    bench.cgroups.set_detail(&container.cgroup, using(2));
    bench.cgroups.set_detail(above, using(5));
    let told = bench.engine.list_pod_sandbox_metrics().await.unwrap();
    assert_eq!(told.len(), 1);
    let (pod, (told_id, own)) = (&told[0].pod, &told[0].containers[0]);
    assert_eq!(*told_id, id);
    assert_eq!(
        (cpu_seconds(&pod.samples), cpu_seconds(&own.samples)),
        (5, 2)
    );
    let (pod, own) = (pod.labels.values(), own.labels.values());
    assert_eq!(pod, [above, "", "", "default", "a", ""]);
    assert_eq!(own[..2], [container.cgroup.as_str(), id.as_str()]);
    assert_eq!(own[3..], ["default", "a", "main"]);
    assert!(
        own[2].contains(&container.image_id.to_string()),
        "{}",
        own[2]
    );
}

#[tokio::test]
async fn a_writable_layer_just_made_is_measured_at_once() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    let container = bench.engine.container_status(id.as_str()).unwrap();
    bench.cgroups.set_detail(&container.cgroup, using(2));
    let told = bench.engine.list_pod_sandbox_metrics().await.unwrap();
    let samples = &told[0].containers[0].1.samples;
    let size = samples.iter().find(|sample| sample.family == &f::FS_USAGE);
    assert!(size.unwrap().timestamp > 0);
}

#[tokio::test]
async fn what_has_ended_or_cannot_be_read_is_left_out() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    let told = bench.engine.list_pod_sandbox_metrics().await.unwrap();
    assert_eq!((told.len(), told[0].containers.len()), (1, 0), "no cgroup");
    let container = bench.engine.container_status(id.as_str()).unwrap();
    bench.cgroups.set_detail(&container.cgroup, using(2));
    bench.stop(&id, Duration::ZERO).await;
    let told = bench.engine.list_pod_sandbox_metrics().await.unwrap();
    assert_eq!((told.len(), told[0].containers.len()), (1, 0), "ended");
    let sandbox = container.sandbox_id.as_str();
    bench.engine.stop_pod_sandbox(sandbox).await.unwrap();
    let told = bench.engine.list_pod_sandbox_metrics().await.unwrap();
    assert!(told.is_empty(), "stopped");
}
