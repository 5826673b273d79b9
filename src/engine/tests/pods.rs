//! Pods: made, joined, undone, found again.

use super::*;

#[tokio::test]
async fn a_pod_comes_and_goes_and_nothing_is_left() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    let status = bench.engine.pod_sandbox_status(id.as_str()).unwrap();
    assert_eq!(status.sandbox.state, SandboxState::Ready);
    assert_eq!(status.sandbox.ips.len(), 1);
    bench.engine.stop_pod_sandbox(id.as_str()).await.unwrap();
    bench.engine.stop_pod_sandbox(id.as_str()).await.unwrap();
    assert_eq!((bench.tasks.pinned(), bench.networks.given()), (0, 0));
    let stopped = bench.engine.pod_sandbox_status(id.as_str()).unwrap();
    assert_eq!(stopped.sandbox.state, SandboxState::NotReady);
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    bench.assert_empty();
}

#[tokio::test]
async fn every_step_that_fails_is_undone() {
    let bench = Bench::new().await;
    bench.tasks.refuse("pin");
    assert!(bench.run(pod("a")).await.is_err());
    bench.assert_empty();
    bench.tasks.refuse("");
    bench.networks.fail();
    assert!(bench.run(pod("a")).await.is_err());
    bench.assert_empty();
}

#[tokio::test]
async fn five_callers_of_one_pod_get_one_sandbox() {
    let bench = Bench::new().await;
    let calls = (0..5).map(|_| bench.run(pod("a")));
    let ids = futures::future::try_join_all(calls).await.unwrap();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!((bench.sandboxes(), bench.networks.given()), (1, 1));
}

#[tokio::test]
async fn a_retry_after_a_caller_gave_up_gets_the_same_sandbox() {
    use futures::FutureExt;
    let bench = Bench::new().await;
    bench.networks.hold();
    // Polled once, then dropped, as a call whose deadline passed.
    assert!(bench.run(pod("a")).now_or_never().is_none());
    bench.networks.let_pass();
    let id = bench.run(pod("a")).await.unwrap();
    assert_eq!(bench.run(pod("a")).await.unwrap(), id);
    assert_eq!((bench.sandboxes(), bench.networks.given()), (1, 1));
}

#[tokio::test]
async fn only_a_stopped_or_another_sandbox_in_use_is_in_the_way() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    let mut other = pod("a");
    other.hostname = "other".to_owned();
    assert_eq!(
        bench.run(other).await.unwrap_err().kind(),
        Kind::AlreadyExists
    );
    bench.engine.stop_pod_sandbox(id.as_str()).await.unwrap();
    assert_eq!(
        bench.run(pod("a")).await.unwrap_err().kind(),
        Kind::AlreadyExists
    );
    let mut next = pod("a");
    next.metadata.attempt = 1;
    bench.run(next).await.unwrap();
}

#[tokio::test]
async fn a_start_finds_what_was_ready_and_undoes_what_was_half_made() {
    let bench = Bench::new().await;
    let ready = bench.run(pod("ready")).await.unwrap();
    let half = bench.run(pod("half")).await.unwrap();
    let mut record = bench
        .engine
        .pod_sandbox_status(half.as_str())
        .unwrap()
        .sandbox;
    Arc::make_mut(&mut record).state = SandboxState::Creating;
    bench.store.save_sandbox(&record).unwrap();
    let late = record.namespaces.network.clone().unwrap();
    bench.tasks.pin_late(late);
    let bench = bench.restart().await;
    let found = bench.engine.list_pod_sandbox(&SandboxFilter::default());
    assert_eq!(
        found.iter().map(|s| &s.id).collect::<Vec<_>>(),
        vec![&ready]
    );
    assert_eq!((bench.networks.given(), bench.tasks.pinned()), (1, 2));
    bench
        .engine
        .remove_pod_sandbox(ready.as_str())
        .await
        .unwrap();
    bench.assert_empty();
}

#[tokio::test]
async fn an_unknown_handler_is_refused_before_anything_is_made() {
    let bench = Bench::new().await;
    let error = bench
        .engine
        .run_pod_sandbox(pod("a"), "kata".to_owned())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("kata"), "{error}");
    bench.assert_empty();
}

#[tokio::test]
async fn a_user_namespace_that_the_node_cannot_give_is_refused_before_anything_is_made() {
    let bench = Bench::new().await;
    let mut config = pod("a");
    config.security.namespaces.user = Some(UserNamespace::default());
    let error = bench.run(config).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    bench.assert_empty();
}
