//! An image's HEALTHCHECK, run in a container.

use super::*;
use crate::engine::health::health;
use crate::engine::objects::ContainerCell;
use crate::model::health::{Healthcheck, Verdict};
use crate::task::fakes::FakeExec;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(1);

fn check() -> Healthcheck {
    Healthcheck {
        command: vec!["check".to_owned()],
        interval: SOON,
        timeout: Duration::from_secs(20),
        start_period: Duration::ZERO,
        start_interval: SOON,
        retries: 2,
    }
}

/// A container that runs, and is checked.
async fn checked(bench: &Bench) -> Arc<ContainerCell> {
    let id = bench.with_container().await;
    let cell = bench
        .engine
        .objects
        .container(id.as_str())
        .unwrap()
        .unwrap();
    cell.change(|container| container.healthcheck = Some(check()));
    bench.engine.start_container(id.as_str()).await.unwrap();
    cell
}

/// What is run next.
async fn next(bench: &Bench) -> FakeExec {
    loop {
        if let Some(exec) = bench.tasks.try_exec() {
            return exec;
        }
        tokio::time::sleep(SOON).await;
    }
}

async fn becomes(cell: &ContainerCell, wanted: Verdict) {
    while health(cell).status != wanted {
        tokio::time::sleep(SOON).await;
    }
}

#[tokio::test]
async fn a_running_container_is_checked_also_by_the_next_daemon() {
    let bench = Bench::new().await;
    let cell = checked(&bench).await;
    next(&bench).await.exit(0);
    becomes(&cell, Verdict::Healthy).await;
    for _ in 0..2 {
        next(&bench).await.exit(1);
    }
    becomes(&cell, Verdict::Unhealthy).await;
    let id = cell.record().id.clone();
    let waiting = next(&bench).await;
    let shown = bench.engine.container_info(id.as_str()).await.unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown["info"]).unwrap();
    assert_eq!(shown["health"]["status"], "unhealthy");
    assert_eq!(shown["health"]["failingStreak"], 2);
    assert_eq!(shown["health"]["log"][0]["exitCode"], 0);
    drop(waiting);
    bench.store.save_container(&cell.record()).unwrap();
    let bench = bench.restart().await;
    let cell = bench
        .engine
        .objects
        .container(id.as_str())
        .unwrap()
        .unwrap();
    assert_eq!(
        health(&cell).status,
        Verdict::Unhealthy,
        "it is known at once"
    );
    while health(&cell).status != Verdict::Healthy {
        next(&bench).await.exit(0);
    }
}

#[tokio::test]
async fn a_container_that_has_ended_is_not_checked_any_more() {
    let bench = Bench::new().await;
    let cell = checked(&bench).await;
    next(&bench).await.exit(0);
    becomes(&cell, Verdict::Healthy).await;
    let watched = Arc::downgrade(&cell);
    let id = cell.record().id.clone();
    bench.stop(&id, Duration::from_secs(5)).await;
    drop(cell);
    bench.engine.remove_container(id.as_str()).await.unwrap();
    // Whoever looks after it holds it.
    while watched.strong_count() > 0 {
        tokio::time::sleep(SOON).await;
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_a_failure_that_says_why() {
    let bench = Bench::new().await;
    bench.tasks.refuse("exec");
    let cell = checked(&bench).await;
    becomes(&cell, Verdict::Unhealthy).await;
    let last = health(&cell).log.pop_back().unwrap();
    assert_eq!(last.exit_code, -1);
    assert!(last.output.contains("told to refuse"), "{}", last.output);
}
