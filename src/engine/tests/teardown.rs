//! What a sandbox held is given back: at once, later, or after a restart.

use super::{Bench, pod};
use crate::error::Kind;
use crate::id::SandboxId;
use crate::model::sandbox::{Release, SandboxState};
use crate::network::fakes::Answer;
use crate::store::Store as _;
use std::time::Duration;
use tokio::time::Instant;

impl Bench {
    /// Waits, in the clock of a paused test, until nothing is held any more.
    async fn settle(&self) {
        while self.tasks.pinned() > 0 || self.networks.given() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn forgotten(&self) {
        while !self.store.load().unwrap().sandboxes.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn stop_pod(&self, id: &SandboxId) {
        self.engine.stop_pod_sandbox(id.as_str()).await.unwrap();
    }

    fn pod_state(&self, id: &SandboxId) -> SandboxState {
        let status = self.engine.pod_sandbox_status(id.as_str()).unwrap();
        status.sandbox.state
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_network_cannot_be_taken_down_is_stopped_and_taken_down_later() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    bench.networks.answer(Answer::Later);
    bench.stop_pod(&id).await;
    assert_eq!(bench.pod_state(&id), SandboxState::NotReady);
    let error = bench.create(&id, "main").await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    let record = &bench.store.load().unwrap().sandboxes[0];
    assert!(record.network.is_some(), "the intent is kept");
    assert_eq!(bench.tasks.pinned(), 2, "a plugin may still need it");
    bench.networks.answer(Answer::Done);
    bench.settle().await;
    bench.stop_pod(&id).await;
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    bench.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_plugin_that_hangs() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    bench.networks.answer(Answer::Nothing);
    let begun = Instant::now();
    bench.stop_pod(&id).await;
    bench.stop_pod(&id).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{begun:?}");
    assert_eq!(bench.networks.asked(), 1, "one DEL at a time");
    assert_eq!(bench.pod_state(&id), SandboxState::NotReady);
}

#[tokio::test(start_paused = true)]
async fn a_pod_can_be_removed_before_its_network_is_taken_down() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    bench.networks.answer(Answer::Later);
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    assert_eq!(bench.sandboxes(), 0);
    assert_eq!(
        bench.store.load().unwrap().sandboxes[0].release,
        Release::Removed
    );
    bench.run(pod("a")).await.unwrap();
    assert_eq!(bench.networks.given(), 2);
    bench.networks.answer(Answer::Done);
    while bench.networks.given() > 1 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(bench.store.load().unwrap().sandboxes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_taking_down() {
    let bench = Bench::new().await;
    let stopped = bench.run(pod("stopped")).await.unwrap();
    let removed = bench.run(pod("removed")).await.unwrap();
    bench.networks.answer(Answer::Later);
    bench.stop_pod(&stopped).await;
    bench
        .engine
        .remove_pod_sandbox(removed.as_str())
        .await
        .unwrap();
    assert_eq!(bench.networks.given(), 2);
    let bench = bench.restart().await;
    bench.networks.answer(Answer::Done);
    bench.settle().await;
    assert_eq!(bench.pod_state(&stopped), SandboxState::NotReady);
    assert_eq!(bench.sandboxes(), 1, "the removed one does not come back");
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_refuses_for_ever_is_believed_once_the_namespace_is_gone() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    bench.networks.answer(Answer::Never);
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    assert_eq!(bench.tasks.pinned(), 2);
    bench.settle().await;
    let asked = bench.networks.asked();
    bench.forgotten().await;
    assert!(bench.networks.asked() > asked, "it was asked again before");
    bench.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_kept_is_asked_for_for_ever() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    bench.networks.answer(Answer::Later);
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(bench.tasks.pinned(), 0, "the namespaces went");
    assert_eq!(
        (
            bench.networks.given(),
            bench.store.load().unwrap().sandboxes.len()
        ),
        (1, 1)
    );
    assert!(bench.networks.asked() < 24 * 20, "ever more rarely");
    bench.networks.answer(Answer::Done);
    bench.forgotten().await;
    bench.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn namespaces_that_cannot_be_released_now_are_released_later() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    bench.tasks.refuse("unpin");
    bench.stop_pod(&id).await;
    assert_eq!(bench.tasks.pinned(), 2);
    bench.tasks.refuse("");
    bench.settle().await;
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    bench.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_keeps_no_pod_from_going() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    let other = bench.run(pod("b")).await.unwrap();
    bench.store.fill();
    bench.engine.remove_pod_sandbox(id.as_str()).await.unwrap();
    bench.stop_pod(&other).await;
    assert_eq!((bench.tasks.pinned(), bench.networks.given()), (0, 0));
    let bench = bench.restart().await;
    assert_eq!(bench.sandboxes(), 1);
    assert_eq!(
        bench.pod_state(&other),
        SandboxState::NotReady,
        "its record says Ready"
    );
}
