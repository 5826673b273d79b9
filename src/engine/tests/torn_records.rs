//! Records that a power cut has torn.

use super::*;

#[tokio::test]
async fn objects_without_a_whole_record_are_undone() {
    let bench = Bench::new().await;
    let container = bench.with_container().await;
    let kept = bench.run(pod("kept")).await.unwrap();
    let torn = bench.run(pod("torn")).await.unwrap();
    bench.store.tear_sandbox(&torn);
    bench.store.tear_container(&container);
    let bench = bench.restart().await;
    let loaded = bench.store.load().unwrap();
    assert!(loaded.torn_sandboxes.is_empty() && loaded.torn_containers.is_empty());
    assert!(loaded.containers.is_empty());
    let there = bench.engine.list_pod_sandbox(&SandboxFilter::default());
    assert!(there.iter().any(|sandbox| sandbox.id == kept));
    assert!(there.iter().all(|sandbox| sandbox.id != torn));
    assert_eq!(bench.networks.given(), there.len(), "addresses");
    // The pod is made anew under the same key.
    bench.run(pod("torn")).await.unwrap();
}
