//! Images over a registry in memory and a store on a real directory.

mod artifacts;
mod many;
mod repair;
mod settled;
mod verified;

use std::{fs, path::PathBuf, time::Duration};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    engine::{Fault, Finding, ProgressSink},
    model::image::{Progress, Stage},
    registry::fakes::HttpRegistry,
};

struct Node {
    root: TempDir,
    registry: Arc<HttpRegistry>,
    images: Arc<Images>,
}

fn node() -> Node {
    let (root, registry) = (TempDir::new().unwrap(), Arc::<HttpRegistry>::default());
    let images = open(&root, &registry, "boot");
    Node {
        root,
        registry,
        images,
    }
}

fn open(root: &TempDir, registry: &Arc<HttpRegistry>, boot: &str) -> Arc<Images> {
    let content = Arc::new(Content::open(&root.path().join("images")).unwrap());
    let layers = Arc::new(Layers::open(&root.path().join("layers"), boot).unwrap());
    Images::open(registry.clone(), content, layers, vec![], 8).unwrap()
}

/// A layer with one file; the owner is whoever runs the tests.
fn layer(name: &str, content: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_data(&mut header, name, content.as_bytes())
        .unwrap();
    builder.into_inner().unwrap()
}

struct Pushed {
    id: ImageId,
    digest: Digest,
    layers: Vec<Digest>,
}

fn push(registry: &HttpRegistry, name: &str, layers: &[Vec<u8>]) -> Pushed {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({"architecture": "x", "os": "linux", "config": {"User": "1002", "Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = registry.push_blob(config.to_string().into_bytes());
    let blobs: Vec<_> = layers
        .iter()
        .map(|layer| registry.push_blob(zstd::encode_all(&layer[..], 1).unwrap()))
        .collect();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": blobs});
    let digest = registry.push_manifest(&name.parse().unwrap(), manifest.to_string().into_bytes());
    Pushed {
        id: ImageId(config.digest),
        digest,
        layers: blobs.into_iter().map(|blob| blob.digest).collect(),
    }
}

fn quiet() -> ProgressSink {
    Arc::new(|_| {})
}

async fn pull(images: &Arc<Images>, name: &str) -> Result<ImageId> {
    images
        .pull(&name.parse().unwrap(), Credentials::default(), quiet())
        .await
}

fn texts(names: &std::collections::BTreeSet<ImageRef>) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn layer_directories(node: &Node) -> Vec<PathBuf> {
    let entries = fs::read_dir(node.root.path().join("layers"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
        .collect()
}

/// Bytes and inodes of all that belongs to an image, as the disk says.
fn on_disk(node: &Node) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0, 0);
    let mut add = |blocks: i64| {
        bytes += 512 * blocks.cast_unsigned();
        inodes += 1;
    };
    for layer in layer_directories(node) {
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&layer).unwrap());
        add(blocks.cast_signed());
        crate::trees::visit(&layer, |stat| add(stat.st_blocks)).unwrap();
    }
    for folder in ["blobs", "records"] {
        let folder = node.root.path().join("images").join(folder);
        crate::trees::visit(&folder, |stat| add(stat.st_blocks)).unwrap();
    }
    (bytes, inodes)
}

#[tokio::test]
async fn a_pulled_image_is_listed_whole_and_gone_after_its_removal() {
    let node = node();
    let pushed = push(
        &node.registry,
        "reg/app:1",
        &[layer("a", "one"), layer("b/c", "two")],
    );
    assert!(node.images.status("reg/app:1").unwrap().is_none());
    assert_eq!(pull(&node.images, "reg/app:1").await.unwrap(), pushed.id);
    let image = node.images.status("reg/app:1").unwrap().unwrap();
    assert_eq!(texts(&image.record.tags), ["docker.io/reg/app:1"]);
    assert_eq!(
        texts(&image.record.digests),
        [format!("docker.io/reg/app@{}", pushed.digest)]
    );
    assert_eq!(
        (image.config.user.as_str(), image.record.layers.len()),
        ("1002", 2)
    );
    let trees = node.images.layers.trees(&image.record.layers).unwrap();
    assert_eq!(fs::read_to_string(trees[0].join("b/c")).unwrap(), "two");
    assert_eq!(fs::read_to_string(trees[1].join("a")).unwrap(), "one");
    let info = node.images.fs_info();
    assert_eq!((info.used_bytes, info.inodes_used), on_disk(&node));
    assert!(
        image.size > 0
            && node
                .images
                .config_json(&pushed.id)
                .await
                .unwrap()
                .contains("1002")
    );

    let removals = (0..5).map(|_| node.images.remove("reg/app:1"));
    let removed = futures::future::try_join_all(removals).await.unwrap();
    assert_eq!(removed.iter().flatten().count(), 1);
    assert!(node.images.status(pushed.id.0.hex()).unwrap().is_none());
    node.images.reclaim().await.unwrap();
    assert_eq!(layer_directories(&node), Vec::<PathBuf>::new());
    assert_eq!(node.images.fs_info().used_bytes, 0);
    assert_eq!(node.images.content.blobs().unwrap(), []);
}

#[tokio::test]
async fn names_of_one_image_come_together_and_go_together() {
    let node = node();
    let layers = [layer("a", "one")];
    let pushed = push(&node.registry, "reg/app:1", &layers);
    push(&node.registry, "reg/app:2", &layers);
    push(&node.registry, "other.io/app:1", &layers);
    let by_digest = format!("reg/app@{}", pushed.digest);
    pull(&node.images, &by_digest).await.unwrap();
    let image = node.images.status(&by_digest).unwrap().unwrap();
    assert_eq!(
        (
            texts(&image.record.tags).len(),
            texts(&image.record.digests)
        ),
        (0, vec![format!("docker.io/{by_digest}")])
    );
    for name in ["reg/app:1", "reg/app:2", "other.io/app:1"] {
        assert_eq!(pull(&node.images, name).await.unwrap(), pushed.id);
    }
    let image = node.images.list(Some("reg/app:2")).unwrap().remove(0);
    assert_eq!(
        (image.record.tags.len(), image.record.digests.len()),
        (3, 2)
    );
    assert_eq!(node.images.list(None).unwrap().len(), 1);
    let removed = node.images.remove("other.io/app:1").await.unwrap().unwrap();
    assert_eq!(removed.references.len(), 5);
    assert!(node.images.list(Some("reg/app:1")).unwrap().is_empty());
    assert_eq!(node.registry.asked(&pushed.layers[0]), 1);
}

#[tokio::test]
async fn pulls_at_once_share_the_download() {
    let node = node();
    let shared = layer("base", "shared");
    let one = push(&node.registry, "one:1", &[shared.clone(), layer("a", "1")]);
    let two = push(&node.registry, "two:1", &[shared, layer("b", "2")]);
    node.registry.close();
    let pulls = futures::future::join_all(
        ["one:1", "one:1", "one:1", "two:1"].map(|name| pull(&node.images, name)),
    );
    let opened = async {
        while node.registry.asked(&two.layers[1]) == 0 && node.registry.asked(&two.id.0) == 0 {
            tokio::task::yield_now().await;
        }
        node.registry.open();
    };
    let (ids, ()) = tokio::join!(pulls, opened);
    let ids: Vec<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids, [one.id.clone(), one.id.clone(), one.id, two.id]);
    for digest in one.layers.iter().chain(&two.layers) {
        assert_eq!(node.registry.asked(digest), 1);
    }
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_ends() {
    let node = node();
    let pushed = push(&node.registry, "app:1", &[layer("a", "1")]);
    pull(&node.images, "app:1").await.unwrap();
    node.images.remove("app:1").await.unwrap();
    node.images.reclaim().await.unwrap();
    node.registry.close();
    assert!(
        tokio::time::timeout(Duration::from_millis(30), pull(&node.images, "app:1"))
            .await
            .is_err()
    );
    node.registry.open();
    while fs::read_dir(node.root.path().join("layers"))
        .unwrap()
        .any(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".tmp-")
        })
    {
        tokio::task::yield_now().await;
    }
    assert!(node.images.list(None).unwrap().is_empty());
    assert_eq!(pull(&node.images, "app:1").await.unwrap(), pushed.id);
}

#[tokio::test]
async fn a_broken_layer_fails_the_pull_and_only_it_is_fetched_again() {
    let node = node();
    let pushed = push(
        &node.registry,
        "app:1",
        &[layer("a", "1"), layer("b", &"2".repeat(9000))],
    );
    node.registry.break_blob(&pushed.layers[1]);
    let error = pull(&node.images, "app:1").await.unwrap_err();
    assert_eq!(
        error.kind(),
        Kind::Sentinel(crate::error::Sentinel::RegistryUnavailable),
        "{}",
        error.chain()
    );
    assert!(
        error.chain().contains("docker.io/library/app:1")
            && error.chain().contains(pushed.layers[1].as_str())
    );
    assert!(node.images.list(None).unwrap().is_empty());
    let asked = node.registry.asked(&pushed.layers[0]);
    node.registry.mend_blob(&pushed.layers[1]);
    pull(&node.images, "app:1").await.unwrap();
    assert!(node.registry.asked(&pushed.layers[0]) <= asked + 1);
    assert_eq!(
        pull(&node.images, "absent:1").await.unwrap_err().kind(),
        Kind::NotFound
    );
}

#[tokio::test]
async fn images_survive_a_restart_and_incomplete_ones_are_fetched_again() {
    let node = node();
    let pushed = push(&node.registry, "app:1", &[layer("a", "1"), layer("b", "2")]);
    pull(&node.images, "app:1").await.unwrap();
    assert_eq!(
        open(&node.root, &node.registry, "boot")
            .list(None)
            .unwrap()
            .len(),
        1
    );
    node.images.layers.make_durable().unwrap();
    let image = node.images.status("app:1").unwrap().unwrap();
    let top = node
        .root
        .path()
        .join("layers")
        .join(image.record.layers[1].0.hex());
    fs::remove_dir_all(top).unwrap();
    let again = open(&node.root, &node.registry, "next boot");
    assert!(again.list(None).unwrap().is_empty());
    let report = again.check(&[]).await.unwrap();
    assert_eq!(
        (report.findings.len(), report.findings[0].fault),
        (1, Fault::Missing)
    );
    again.reclaim().await.unwrap();
    pull(&again, "app:1").await.unwrap();
    assert_eq!(again.check(&[]).await.unwrap().findings, []);
    assert_eq!(
        (
            node.registry.asked(&pushed.layers[0]),
            node.registry.asked(&pushed.layers[1])
        ),
        (1, 2)
    );
}

#[tokio::test]
async fn a_container_keeps_what_it_runs_on_across_removal_and_restart() {
    let node = node();
    let pushed = push(&node.registry, "app:1", &[layer("a", "1")]);
    pull(&node.images, "app:1").await.unwrap();
    let container = ContainerId::random();
    node.images.hold(&container, &pushed.id).unwrap();
    node.images.remove("app:1").await.unwrap();
    node.images.reclaim().await.unwrap();
    assert!(node.images.list(None).unwrap().is_empty());
    assert_eq!(layer_directories(&node).len(), 1);
    let again = open(&node.root, &node.registry, "boot");
    again.hold(&container, &pushed.id).unwrap();
    again.reclaim().await.unwrap();
    assert_eq!(layer_directories(&node).len(), 1);
    again.release(&container);
    again.reclaim().await.unwrap();
    assert_eq!(layer_directories(&node).len(), 0);
    assert!(again.hold(&container, &pushed.id).is_err());
}

#[tokio::test]
async fn an_index_leads_to_this_machine_and_names_the_image() {
    let node = node();
    let pushed = push(&node.registry, "app:inner", &[layer("a", "1")]);
    let host = Platform::host();
    let entry = |digest: &Digest, os: &str, architecture: &str| json!({"mediaType": "", "digest": digest, "size": 1, "platform": {"os": os, "architecture": architecture}});
    let index = json!({"manifests": [entry(&Digest::of(b"att"), "unknown", "unknown"), entry(&pushed.digest, "linux", &host.architecture)]});
    let digest = node
        .registry
        .push_manifest(&"app:1".parse().unwrap(), index.to_string().into_bytes());
    assert_eq!(pull(&node.images, "app:1").await.unwrap(), pushed.id);
    let image = node.images.status("app:1").unwrap().unwrap();
    assert_eq!(
        texts(&image.record.digests),
        [format!("docker.io/library/app@{digest}")]
    );
    assert_eq!(image.record.manifest, pushed.digest);
    let loop_name: ImageRef = "loop:1".parse().unwrap();
    let artifact = node.registry.push_blob(b"{}".to_vec());
    let manifest = json!({"config": artifact, "layers": [artifact]});
    node.registry
        .push_manifest(&loop_name, manifest.to_string().into_bytes());
    assert!(
        pull(&node.images, "loop:1")
            .await
            .unwrap_err()
            .chain()
            .contains("image that can be run")
    );
}

#[tokio::test]
async fn progress_tells_of_each_layer() {
    let node = node();
    let pushed = push(&node.registry, "app:1", &[layer("a", "1")]);
    let told = Arc::new(std::sync::Mutex::new(Vec::<Progress>::new()));
    let sink: ProgressSink = {
        let told = told.clone();
        Arc::new(move |step| told.lock().unwrap().push(step))
    };
    let name: ImageRef = "app:1".parse().unwrap();
    node.images
        .pull(&name, Credentials::default(), sink.clone())
        .await
        .unwrap();
    node.images
        .pull(&name, Credentials::default(), sink)
        .await
        .unwrap();
    let told = told.lock().unwrap();
    let stages: Vec<_> = told.iter().map(|step| step.stage).collect();
    use Stage::{Done, Exists, Fetching, Resolving, Unpacking, Waiting};
    assert_eq!(
        stages,
        [
            Resolving, Waiting, Fetching, Unpacking, Done, Resolving, Exists
        ]
    );
    assert_eq!(told[4].layer.as_ref(), Some(&pushed.layers[0]));
    assert_eq!(
        (told[4].done, told[3].total),
        (told[4].total, told[4].total)
    );
}
