//! Who follows what happens is told what lists show, in the order in which it happens.

use super::*;
use crate::engine::{ContainerEvent, Following};
use crate::model::event::EventKind::{self, Created, Deleted, Started, Stopped};
use futures::FutureExt;

/// The next event, which must be there by now or come soon.
async fn next(following: &mut Following) -> ContainerEvent {
    let event = tokio::time::timeout(Duration::from_secs(10), following.next()).await;
    event.expect("an event").expect("no end").unwrap()
}

async fn heard(following: &mut Following, count: usize) -> Vec<(EventKind, String)> {
    let mut heard = Vec::new();
    for _ in 0..count {
        let event = next(following).await;
        heard.push((event.kind, event.subject));
    }
    assert!(
        following.next().now_or_never().is_none(),
        "{heard:?} is not all"
    );
    heard
}

fn of(id: &impl ToString, kinds: &[EventKind]) -> Vec<(EventKind, String)> {
    kinds.iter().map(|kind| (*kind, id.to_string())).collect()
}

#[tokio::test]
async fn a_pods_whole_life_is_told_each_step_once_and_in_order() {
    let bench = Bench::new().await;
    let mut following = bench.engine.follow_events();
    let id = bench.with_container().await;
    let sandbox = bench.sandbox_of(&id);
    assert_eq!(
        heard(&mut following, 3).await,
        [of(&sandbox, &[Created, Started]), of(&id, &[Created])].concat()
    );
    bench.engine.start_container(id.as_str()).await.unwrap();
    assert_eq!(heard(&mut following, 1).await, of(&id, &[Started]));
    bench.stop(&id, Duration::from_secs(5)).await;
    bench.stop(&id, Duration::ZERO).await;
    assert_eq!(heard(&mut following, 1).await, of(&id, &[Stopped]));
    bench.engine.remove_container(id.as_str()).await.unwrap();
    bench.engine.remove_container(id.as_str()).await.unwrap();
    assert_eq!(heard(&mut following, 1).await, of(&id, &[Deleted]));
    bench
        .engine
        .stop_pod_sandbox(sandbox.as_str())
        .await
        .unwrap();
    bench
        .engine
        .stop_pod_sandbox(sandbox.as_str())
        .await
        .unwrap();
    assert_eq!(heard(&mut following, 1).await, of(&sandbox, &[Stopped]));
    bench
        .engine
        .remove_pod_sandbox(sandbox.as_str())
        .await
        .unwrap();
    bench
        .engine
        .remove_pod_sandbox(sandbox.as_str())
        .await
        .unwrap();
    assert_eq!(heard(&mut following, 1).await, of(&sandbox, &[Deleted]));
}

#[tokio::test]
async fn an_event_shows_the_pod_just_after_it_and_times_grow() {
    let bench = Bench::new().await;
    let mut following = bench.engine.follow_events();
    let id = bench.with_container().await;
    bench.engine.start_container(id.as_str()).await.unwrap();
    bench.stop(&id, Duration::ZERO).await;
    // All is over by now, and each event still shows what was so when it happened.
    let mut last = 0;
    let mut states = Vec::new();
    for _ in 0..5 {
        let event = next(&mut following).await;
        assert!(event.at > last);
        last = event.at;
        assert_eq!(event.sandbox.state, SandboxState::Ready);
        states.push(event.containers.first().map(|one| one.state.clone()));
    }
    assert_eq!(
        states[..4],
        [
            None,
            None,
            Some(ContainerState::Created),
            Some(ContainerState::Running)
        ]
    );
    assert!(matches!(states[4], Some(ContainerState::Exited(_))));
}

#[tokio::test]
async fn what_happened_while_nobody_followed_is_told_with_the_pod_as_it_is() {
    let bench = Bench::new().await;
    drop(bench.engine.follow_events());
    let id = bench.with_container().await;
    bench.engine.start_container(id.as_str()).await.unwrap();
    let mut following = bench.engine.follow_events();
    for kind in [Created, Started, Created, Started] {
        let event = next(&mut following).await;
        assert_eq!(event.kind, kind);
        assert_eq!(event.containers[0].state, ContainerState::Running);
    }
}

#[tokio::test]
async fn the_end_of_a_container_while_the_daemon_was_down_is_told_by_the_next_one() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    bench.engine.start_container(id.as_str()).await.unwrap();
    bench.tasks.lose_shim(&id);
    let bench = bench.restart().await;
    let mut following = bench.engine.follow_events();
    let event = next(&mut following).await;
    assert_eq!((event.kind, event.subject), (Stopped, id.to_string()));
    assert!(event.containers[0].has_exited());
}

#[tokio::test]
async fn what_could_not_be_made_is_not_told() {
    let bench = Bench::new().await;
    let mut following = bench.engine.follow_events();
    bench.tasks.refuse("pin");
    assert!(bench.run(pod("a")).await.is_err());
    bench.tasks.refuse("create");
    let sandbox = bench.run(pod("b")).await.unwrap();
    assert!(bench.create(&sandbox, "main").await.is_err());
    assert_eq!(
        heard(&mut following, 2).await,
        of(&sandbox, &[Created, Started])
    );
}

#[tokio::test]
async fn a_daemon_that_stops_ends_the_stream() {
    let bench = Bench::new().await;
    let mut following = bench.engine.follow_events();
    bench.engine.end_following();
    assert!(following.next().await.is_none());
}
