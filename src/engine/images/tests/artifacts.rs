//! Artifacts: manifests without a root file system, whose blobs are seen as files.

use super::*;
use crate::model::image::Descriptor;

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// The manifest of an artifact with a config of this type and these blobs, each with its title.
fn artifact(registry: &HttpRegistry, config_type: &str, blobs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut config = registry.push_blob(b"{}".to_vec());
    config.media_type = config_type.to_owned();
    let titled = |(title, bytes): &(&str, &[u8])| {
        let mut blob = registry.push_blob(bytes.to_vec());
        if !title.is_empty() {
            let key = "org.opencontainers.image.title".to_owned();
            blob.annotations.insert(key, (*title).to_owned());
        }
        blob
    };
    let layers: Vec<Descriptor> = blobs.iter().map(titled).collect();
    let manifest =
        json!({"schemaVersion": 2, "artifactType": "x/y", "config": config, "layers": layers});
    manifest.to_string().into_bytes()
}

fn push_artifact(registry: &HttpRegistry, name: &str, blobs: &[(&str, &[u8])]) -> Digest {
    let manifest = artifact(registry, EMPTY, blobs);
    registry.push_manifest(&name.parse().unwrap(), manifest)
}

/// An OCI layout of one manifest and these blobs.
fn layout_of(manifest: &[u8], blobs: &[&[u8]]) -> TempDir {
    let layout = TempDir::new().unwrap();
    let folder = layout.path().join("blobs/sha256");
    fs::create_dir_all(&folder).unwrap();
    for blob in blobs.iter().copied().chain([manifest]) {
        fs::write(folder.join(Digest::of(blob).hex()), blob).unwrap();
    }
    let entry = json!({"digest": Digest::of(manifest), "size": manifest.len()});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
    layout
}

/// The content of a file of an image.
fn read(images: &Images, image: &Image, name: &str) -> Vec<u8> {
    let trees = images.layers.trees(&image.record.layers).unwrap();
    let mut found = trees
        .iter()
        .filter_map(|tree| fs::read(tree.join(name)).ok());
    found.next().unwrap()
}

#[tokio::test]
async fn an_artifact_is_listed_and_its_blobs_are_files() {
    let node = node();
    // What looks like a layer is a file too.
    let tar = zstd::encode_all(&layer("a", "inside")[..], 1).unwrap();
    let large = vec![7; 3 << 20];
    let blobs = [
        ("m/model.bin", &large[..]),
        ("archive", &tar),
        ("", b"untitled"),
        ("none", b""),
    ];
    let digest = push_artifact(&node.registry, "reg/model:1", &blobs);
    let other = push_artifact(&node.registry, "reg/model:2", &blobs[1..2]);
    let id = pull(&node.images, "reg/model:1").await.unwrap();
    assert_eq!(id.0, digest);
    // Both have the same config.
    assert_eq!(pull(&node.images, "reg/model:2").await.unwrap().0, other);
    for images in [&node.images, &open(&node.root, &node.registry, "boot")] {
        let image = images.status("reg/model:1").unwrap().unwrap();
        assert_eq!(image.artifact.as_deref(), Some("x/y"));
        assert_eq!(read(images, &image, "m/model.bin"), large);
        assert_eq!(read(images, &image, "archive"), tar);
        let untitled = Digest::of(b"untitled");
        assert_eq!(read(images, &image, untitled.hex()), b"untitled");
        assert_eq!(read(images, &image, "none"), b"");
        let manifest = images.config_json(&image.record.id).await.unwrap();
        assert!(manifest.contains("x/y"), "{manifest}");
    }
    let usage = node.images.fs_info();
    assert_eq!(on_disk(&node), (usage.used_bytes, usage.inodes_used));
    assert_eq!(node.images.check(&[]).await.unwrap().findings, []);
    node.images.remove("reg/model:1").await.unwrap();
    node.images.remove("reg/model:2").await.unwrap();
    node.images.reclaim().await.unwrap();
    assert_eq!(layer_directories(&node), Vec::<PathBuf>::new());
    assert_eq!(node.images.content.blobs().unwrap(), []);
}

#[tokio::test]
async fn a_directory_that_oras_packed_is_one_again() {
    let node = node();
    let tar = layer("docs/page", "text");
    let mut blob = node
        .registry
        .push_blob(zstd::encode_all(&tar[..], 1).unwrap());
    for (key, value) in [
        ("org.opencontainers.image.title", "docs"),
        ("io.deis.oras.content.unpack", "true"),
        ("io.deis.oras.content.digest", Digest::of(&tar).as_str()),
    ] {
        blob.annotations.insert(key.to_owned(), value.to_owned());
    }
    let mut config = node.registry.push_blob(b"{}".to_vec());
    config.media_type = EMPTY.to_owned();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [blob]});
    let name = "reg/docs:1".parse().unwrap();
    node.registry
        .push_manifest(&name, manifest.to_string().into_bytes());
    pull(&node.images, "reg/docs:1").await.unwrap();
    let image = node.images.status("reg/docs:1").unwrap().unwrap();
    assert_eq!(read(&node.images, &image, "docs/page"), b"text");
}

#[tokio::test]
async fn what_is_neither_an_image_nor_a_whole_artifact_is_refused() {
    let node = node();
    let image = "application/vnd.oci.image.config.v1+json";
    for (config, titles, words) in [
        (EMPTY, &["../x"][..], "not allowed"),
        (EMPTY, &["a", "a"], "are both at \"a\""),
        (image, &["a"], "can be run"),
    ] {
        let contents = [&b"x"[..], b"y"];
        let blobs: Vec<_> = titles.iter().copied().zip(contents).collect();
        let manifest = artifact(&node.registry, config, &blobs);
        let name = "reg/model:1".parse().unwrap();
        node.registry.push_manifest(&name, manifest);
        let error = pull(&node.images, "reg/model:1").await.unwrap_err().chain();
        assert!(
            error.contains(words) && error.contains("reg/model:1"),
            "{error}"
        );
    }
    node.images.reclaim().await.unwrap();
    assert_eq!(layer_directories(&node), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_artifact_of_a_layout_is_imported() {
    let node = node();
    let manifest = artifact(&node.registry, EMPTY, &[("model", b"weights")]);
    let layout = layout_of(&manifest, &[b"weights"]);
    let name = ["reg/model:1".parse().unwrap()];
    let imported = node.images.import(layout.path(), &name, quiet()).await;
    let image = &imported.unwrap()[0];
    assert_eq!(image.record.id.0, Digest::of(&manifest));
    assert_eq!(read(&node.images, image, "model"), b"weights");
}
