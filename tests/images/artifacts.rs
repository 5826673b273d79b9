//! Artifacts as ORAS pushes them to a real registry: no root file system, each blob a file.

use std::fs;

use corten::{
    id::Digest,
    model::{credentials::Secret, image::Image},
    snapshot::Layers,
};
use serde_json::{Value, json};

use super::{Served, images, pull};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TITLE: &str = "org.opencontainers.image.title";

impl Served {
    async fn push_titled(&self, title: &str, bytes: &[u8]) -> Value {
        let mut blob = self.push_blob(bytes).await;
        blob["annotations"] = json!({TITLE: title});
        blob
    }

    async fn push_artifact(&self, tag: &str, layers: &[Value]) -> Digest {
        let mut config = self.push_blob(b"{}").await;
        config["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        let kind = "application/vnd.example.model";
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config, "layers": layers});
        self.push_manifest(tag, &manifest).await
    }
}

/// The content of a file of an image, as its layers have it.
fn file(served: &Served, image: &Image, name: &str) -> Vec<u8> {
    let layers = Layers::open(&served.root.path().join("layers"), "boot").unwrap();
    let trees = layers.trees(&image.record.layers).unwrap();
    let mut found = trees
        .iter()
        .filter_map(|tree| fs::read(tree.join(name)).ok());
    found.next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn a_real_registry_serves_artifacts() {
    let served = Served::start(false).await;
    let weights = super::node::noise(2 << 20);
    let layers = [
        served.push_titled("model/weights.bin", &weights).await,
        served.push_titled("LICENSE", b"free").await,
    ];
    let digest = served.push_artifact("model", &layers).await;
    let images = images(served.root.path());
    let name = format!("{}/app:model", served.address);
    let id = pull(&images, &name, Secret::Anonymous).await.unwrap();
    assert_eq!(id, digest.to_string());
    let listed = images.list(None).unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].size > weights.len() as u64, "{}", listed[0].size);
    let inspected = images.inspect(&name).await.unwrap();
    let image = &inspected.image;
    assert_eq!(
        image.artifact.as_deref(),
        Some("application/vnd.example.model")
    );
    assert!(inspected.config.contains("artifactType"));
    assert_eq!(inspected.layers.len(), 2);
    assert_eq!(file(&served, image, "model/weights.bin"), weights);
    assert_eq!(file(&served, image, "LICENSE"), b"free");
    // An index of artifacts says nothing of platforms.
    let entry = json!({"mediaType": MANIFEST, "digest": digest, "size": 1000});
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [entry]});
    served.push_manifest("all", &index).await;
    let all = format!("{}/app:all", served.address);
    assert_eq!(pull(&images, &all, Secret::Anonymous).await.unwrap(), id);
    images.remove(&name).await.unwrap();
    images.reclaim().await.unwrap();
    assert_eq!(images.list(None).unwrap(), []);
    assert_eq!(images.fs_info().used_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn an_artifacts_names_are_safe_or_it_is_refused() {
    let served = Served::start(false).await;
    let images = images(served.root.path());
    let name = format!("{}/app:bad", served.address);
    for titles in [
        ["../../escape", "a"],
        ["/etc/passwd", "a"],
        [".wh..wh..opq", "a"],
        ["a", "a"],
        ["a", "a/b"],
    ] {
        let mut layers = vec![];
        for (title, bytes) in titles.iter().zip([b"one", b"two"]) {
            layers.push(served.push_titled(title, bytes).await);
        }
        served.push_artifact("bad", &layers).await;
        let parsed = name.parse().unwrap();
        let quiet = std::sync::Arc::new(|_| {});
        let pulled = images.pull(&parsed, Default::default(), quiet);
        let error = pulled.await.unwrap_err().chain();
        let blob = layers[0]["digest"].as_str().unwrap();
        assert!(error.contains(&name) && error.contains(blob), "{error}");
    }
    images.reclaim().await.unwrap();
    assert_eq!(images.fs_info().used_bytes, 0);
}
