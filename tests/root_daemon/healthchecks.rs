//! An image's HEALTHCHECK, where a pod asks for it.

use crate::image;
use crate::node::{Node, in_a_node};
use crate::pods::{self, idle};
use crate::wait::until_found;
use corten_proto::runtime::v1::*;

fn checked() -> ImageSpec {
    ImageSpec {
        image: image::CHECKED.to_owned(),
        ..Default::default()
    }
}

async fn is(node: &Node, id: &str, wanted: &str) {
    until_found(wanted, 20, async || {
        let health = node.cri.info(id).await["health"].clone();
        let found = health["status"] == wanted;
        found.then_some(()).ok_or_else(|| health.to_string())
    })
    .await;
}

#[test]
#[ignore = "needs root"]
fn root_an_images_healthcheck_is_run_where_the_pod_asks_for_it() {
    in_a_node(async |node| {
        let layout = node.scratch.join("checked");
        image::write_checked_layout(&layout);
        node.cri.import(&layout, image::CHECKED).await;
        std::fs::remove_dir_all(layout).unwrap();
        let container = |name: &str| ContainerConfig {
            image: Some(checked()),
            ..idle(name)
        };
        let plain = node.run(pods::pod("plain")).await;
        let unchecked = node.launch(&plain, container("unchecked")).await;
        let mut asks = pods::pod("asks");
        let key = "corten.dev/healthcheck".to_owned();
        asks.annotations.insert(key, "true".to_owned());
        let asks = node.run(asks).await;
        let id = node.launch(&asks, container("checked")).await;
        is(node, &id, "unhealthy").await;
        let log = node.cri.info(&id).await["health"]["log"].clone();
        let said = log[0]["output"].as_str().unwrap();
        assert!(said.contains("/ok"), "{log}");
        node.cri.ask(&id, "touch /ok").await;
        is(node, &id, "healthy").await;
        node.kill_daemon();
        node.start_daemon().await;
        is(node, &id, "healthy").await;
        node.cri.ask(&id, "rm /ok").await;
        is(node, &id, "unhealthy").await;
        assert!(node.cri.info(&unchecked).await["health"].is_null());
        let image = Some(checked());
        let request = RemoveImageRequest { image };
        node.cri.images().remove_image(request).await.unwrap();
    });
}
