//! Images that containers see: found, held, and told by the kubelet's word when they are not there.

use super::*;
use crate::error::Sentinel;
use crate::model::container::{Mount, MountedImage};

fn volume(image: MountedImage) -> ContainerConfig {
    ContainerConfig {
        metadata: ContainerMetadata {
            name: "c".to_owned(),
            attempt: 0,
        },
        mounts: vec![Mount {
            container_path: "/vol".to_owned(),
            readonly: true,
            image: Some(image),
            ..Mount::default()
        }],
        ..ContainerConfig::default()
    }
}

impl Bench {
    async fn see(&self, image: MountedImage) -> crate::error::Result<ContainerId> {
        let sandbox = self.run(pod("a")).await.unwrap();
        let mut config = volume(image);
        config.image = self.image.clone();
        self.engine.create_container(sandbox.as_str(), config).await
    }
}

#[tokio::test]
async fn an_image_that_is_seen_is_held_also_after_a_restart() {
    let bench = Bench::new().await;
    let image = MountedImage {
        image: bench.image.clone(),
        ..MountedImage::default()
    };
    let id = bench.see(image).await.unwrap();
    let seen = |bench: &Bench| {
        let container = bench.engine.container_status(id.as_str()).unwrap();
        container.image_volumes[&0].to_string()
    };
    assert_eq!(seen(&bench), bench.image);
    let bundle = bench.store.bundle_dir(&id);
    let text = std::fs::read(bundle.join("volumes.json")).unwrap();
    let volumes: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let place = bundle.join("volumes/0");
    assert_eq!(volumes[0]["path"], place.to_str().unwrap());
    let spec = std::fs::read_to_string(bundle.join("config.json")).unwrap();
    assert!(
        spec.contains(place.to_str().unwrap()),
        "a bind of that place"
    );
    let again = bench.restart().await;
    assert_eq!(seen(&again), again.image);
}

#[tokio::test]
async fn an_image_that_cannot_be_seen_fails_by_the_kubelets_word() {
    let bench = Bench::new().await;
    let absent = MountedImage {
        image: "registry/absent:1".to_owned(),
        ..MountedImage::default()
    };
    let of_another_handler = MountedImage {
        image: bench.image.clone(),
        handler: "kata".to_owned(),
        ..MountedImage::default()
    };
    for image in [absent, of_another_handler] {
        let refused = bench.see(image).await.unwrap_err();
        let word = Kind::Sentinel(Sentinel::ImageVolumeMountFailed);
        assert_eq!(refused.kind(), word, "{}", refused.chain());
    }
    let all = bench.engine.list_containers(&ContainerFilter::default());
    assert!(all.is_empty());
}
