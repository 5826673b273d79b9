//! A verifier is asked again before a container uses an image.

use super::*;
use crate::engine::ImagePolicy;
use crate::error::Sentinel;
use crate::model::container::{Mount, MountedImage};
use crate::verifier::fakes::Programs;

#[tokio::test]
async fn a_container_of_a_refused_image_is_not_made() {
    let bench = Bench::new().await;
    let verifier = Arc::<Programs>::default();
    bench.engine.images().set_policy(ImagePolicy {
        verifier: Some(verifier.clone()),
        ..ImagePolicy::default()
    });
    let sandbox = bench.run(pod("a")).await.unwrap();
    let mut config = ContainerConfig {
        metadata: ContainerMetadata {
            name: "c".to_owned(),
            attempt: 0,
        },
        image: bench.image.clone(),
        user_specified_image: "registry/sleep:1".to_owned(),
        ..ContainerConfig::default()
    };
    let create = |config: ContainerConfig| bench.engine.create_container(sandbox.as_str(), config);
    create(config.clone()).await.unwrap();
    let asked = verifier.asked();
    assert_eq!(asked[0].name.to_string(), "docker.io/registry/sleep:1");
    // What it is to see is judged too.
    let volume = image_named(bench.engine.images(), "registry/volume:1").await;
    verifier.refuse("docker.io/registry/volume:1");
    config.mounts = vec![Mount {
        container_path: "/vol".to_owned(),
        readonly: true,
        image: Some(MountedImage {
            image: volume,
            ..MountedImage::default()
        }),
        ..Mount::default()
    }];
    let refused = async |config: &ContainerConfig, name: &str| {
        let mut config = config.clone();
        config.metadata.name = name.to_owned();
        let refused = create(config).await.unwrap_err();
        let word = Kind::Sentinel(Sentinel::SignatureValidationFailed);
        assert_eq!(refused.kind(), word, "{}", refused.chain());
        assert!(
            refused.chain().contains("not signed"),
            "{}",
            refused.chain()
        );
    };
    refused(&config, "d").await;
    config.mounts.clear();
    verifier.refuse("docker.io/registry/sleep:1");
    refused(&config, "e").await;
    let all = bench.engine.list_containers(&ContainerFilter::default());
    assert_eq!(all.len(), 1);
}
