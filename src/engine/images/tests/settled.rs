//! What a pull stored becomes durable when others need the disk no more.

use tokio::time::{sleep, timeout};

use super::*;
use crate::engine::settle_images::{CALM, LATEST};

/// A node that has an image, while another one is pulled.
async fn busy() -> (Node, Pins) {
    let node = node();
    push(&node.registry, "app:1", &[layer("a", "1")]);
    let others = node.images.pin(&[ChainId(Digest::of(b"other"))]);
    pull(&node.images, "app:1").await.unwrap();
    (node, others)
}

fn is_durable(node: &Node) -> bool {
    node.images.layers.all().iter().all(|layer| layer.durable)
}

async fn becomes_durable(node: &Node) {
    while !is_durable(node) {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sync_waits_until_no_pull_is_under_way() {
    let (node, others) = busy().await;
    sleep(LATEST / 2).await;
    assert!(!is_durable(&node));
    drop(others);
    let soon = timeout(2 * CALM, becomes_durable(&node));
    soon.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sync_does_not_wait_for_pulls_for_ever() {
    let (node, _others) = busy().await;
    let late = timeout(LATEST + 2 * CALM, becomes_durable(&node));
    late.await.unwrap();
}
