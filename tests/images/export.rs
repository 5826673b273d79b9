//! `keep_blobs` and exports: what comes out is blob for blob what came in, and other tools read it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use corten::{
    engine::{ArchiveForm, ExportStep, Fault as StoreFault, ImagePolicy},
    error::{Error, Kind},
    id::Digest,
    model::image_policy::UnpackPolicy,
};
use serde_json::{Value, json};

use super::{
    fault_registry::{Asked, Fault, FaultRegistry},
    node::{Node, layer_of, noise},
};

const FORMS: [ArchiveForm; 2] = [ArchiveForm::Oci, ArchiveForm::Docker];

fn keeping() -> Node {
    let node = Node::new();
    keep(&node);
    node
}

fn keep(node: &Node) {
    node.images.set_policy(ImagePolicy {
        keep_blobs: true,
        unpacking: UnpackPolicy::default(),
        ..ImagePolicy::default()
    });
}

/// The files of an export.
async fn export(
    node: &Node,
    names: &[&str],
    form: ArchiveForm,
) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let export = node.images.export(&names, form).await?;
    tokio::task::spawn_blocking(move || {
        let mut files: Vec<(String, u64, Vec<u8>)> = Vec::new();
        export.write(|step| {
            match step {
                ExportStep::Member { name, size } => files.push((name, size, Vec::new())),
                ExportStep::Data(bytes) => files.last_mut().unwrap().2.extend(bytes),
            }
            true
        })?;
        let file = |(name, size, bytes): (String, u64, Vec<u8>)| {
            assert_eq!(size, bytes.len() as u64, "{name}");
            (name, bytes)
        };
        Ok(files.into_iter().map(file).collect())
    })
    .await
    .unwrap()
}

/// Writes an export as a directory and as a tar.
fn write(files: &BTreeMap<String, Vec<u8>>, root: &Path) -> (PathBuf, PathBuf) {
    let (folder, archive) = (root.join("layout"), root.join("archive.tar"));
    let mut tar = tar::Builder::new(fs::File::create(&archive).unwrap());
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.finish().unwrap();
    (folder, archive)
}

fn blob_name(digest: &str) -> String {
    digest.replace("sha256:", "blobs/sha256/")
}

/// An image of a small and a large layer, the small one twice.
fn push(registry: &FaultRegistry) -> (Digest, Vec<Vec<u8>>) {
    let (small, large) = (
        layer_of("file", b"small"),
        layer_of("large", &noise(2 << 20)),
    );
    let layers = [small.clone(), large.clone(), small.clone()];
    let manifest = registry.push_image("1", &layers);
    (manifest, vec![small.0, large.0])
}

fn assert_whole(files: &BTreeMap<String, Vec<u8>>, manifest: &Digest, layers: &[Vec<u8>]) {
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index["manifests"][0]["digest"], json!(manifest));
    let bytes = &files[&blob_name(manifest.as_str())];
    assert_eq!(Digest::of(bytes), *manifest);
    for layer in layers {
        let digest = Digest::of(layer);
        assert!(files[&blob_name(digest.as_str())] == *layer);
    }
    // Manifest, config and each layer once.
    let blobs = files.keys().filter(|name| name.starts_with("blobs/"));
    assert_eq!(blobs.count(), 2 + layers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_out_as_it_came_and_in_again_elsewhere() {
    let registry = FaultRegistry::start().await;
    let (manifest, layers) = push(&registry);
    let (node, name) = (keeping(), registry.image("1"));
    let id = node.pull(&name).await.unwrap();
    for form in FORMS {
        let files = export(&node, &[&name], form).await.unwrap();
        assert_whole(&files, &manifest, &layers);
        let scratch = tempfile::tempdir().unwrap();
        let (folder, archive) = write(&files, scratch.path());
        for path in [folder, archive] {
            let other = keeping();
            let imported = other.images.import(&path, &[], Arc::new(|_| {})).await;
            let imported = &imported.unwrap()[0].record;
            assert_eq!(imported.id.to_string(), id);
            assert_eq!(imported.manifest, manifest);
            assert!(imported.tags.iter().any(|tag| tag.to_string() == name));
            let again = export(&other, &[&name], form).await.unwrap();
            assert!(again == files, "the same files again");
        }
    }
    // What nothing names goes with its image.
    assert!(node.images.remove(&name).await.unwrap().is_some());
    node.holds_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_kept_is_named_and_fetched_by_the_next_pull() {
    let registry = FaultRegistry::start().await;
    let (manifest, layers) = push(&registry);
    let (node, name) = (Node::new(), registry.image("1"));
    node.pull(&name).await.unwrap();
    let refused = export(&node, &[&name], ArchiveForm::Oci).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    let text = refused.chain();
    let first = Digest::of(&layers[0]);
    for part in [
        &name,
        &format!("layer 1 of 3 ({first})"),
        "keep_blobs = true",
        "pull the image again",
    ] {
        assert!(text.contains(part), "{text}");
    }
    keep(&node);
    // The connection breaks: the blob is taken up again as ever.
    registry.break_with(
        |asked, _| match asked.is_blob() && asked.range().is_none() {
            true => Fault::CutAfter(1 << 20),
            false => Fault::None,
        },
    );
    node.pull(&name).await.unwrap();
    node.images.reclaim().await.unwrap();
    let files = export(&node, &[&name], ArchiveForm::Oci).await.unwrap();
    assert_whole(&files, &manifest, &layers);
    // Once kept they are not fetched again, and stay when the node keeps no more.
    node.images.set_policy(ImagePolicy::default());
    registry.break_with(|_, _| Fault::None);
    node.pull(&name).await.unwrap();
    node.images.reclaim().await.unwrap();
    assert!(!registry.asked().iter().any(Asked::is_blob));
    export(&node, &[&name], ArchiveForm::Oci).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_not_given_out_and_comes_again() {
    let registry = FaultRegistry::start().await;
    let (manifest, layers) = push(&registry);
    let (node, name) = (keeping(), registry.image("1"));
    node.pull(&name).await.unwrap();
    let blobs = node.root.path().join("images/blobs");
    let blob = blobs.join(Digest::of(&layers[1]).hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let refused = export(&node, &[&name], ArchiveForm::Oci).await.unwrap_err();
    let text = refused.chain();
    assert!(
        text.contains("is damaged") && text.contains("pull"),
        "{text}"
    );
    node.pull(&name).await.unwrap();
    let files = export(&node, &[&name], ArchiveForm::Oci).await.unwrap();
    assert_whole(&files, &manifest, &layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_images_share_an_archive() {
    let registry = FaultRegistry::start().await;
    push(&registry);
    registry.push_image(
        "2",
        &[layer_of("file", b"small"), layer_of("other", b"other")],
    );
    let node = keeping();
    let names = [registry.image("1"), registry.image("2")];
    for name in &names {
        node.pull(name).await.unwrap();
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let files = export(&node, &names, ArchiveForm::Docker).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (_, archive) = write(&files, scratch.path());
    let other = Node::new();
    let imported = other.images.import(&archive, &[], Arc::new(|_| {})).await;
    assert_eq!(imported.unwrap().len(), 2);
    let absent = export(&node, &["reg.test/none:1"], ArchiveForm::Oci).await;
    assert_eq!(absent.unwrap_err().kind(), Kind::NotFound);
}

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("skopeo");
    let done = command
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "skopeo {arguments:?}: {said}");
    done.stdout
}

fn times_asked(registry: &FaultRegistry, layer: &[u8]) -> usize {
    let digest = Digest::of(layer);
    let asked = registry.asked().into_iter();
    let asked = asked.filter(|asked| asked.target.ends_with(digest.as_str()));
    asked.count()
}

/// The path of a kept blob.
fn kept(node: &Node, layer: &[u8]) -> PathBuf {
    let blobs = node.root.path().join("images/blobs");
    blobs.join(Digest::of(layer).hex())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_blob_that_has_changed_is_found_and_fetched_again() {
    let registry = FaultRegistry::start().await;
    let (manifest, layers) = push(&registry);
    let (node, name) = (keeping(), registry.image("1"));
    node.pull(&name).await.unwrap();
    let whole = node.images.check(&[]).await.unwrap();
    assert_eq!(whole.findings, []);
    // Of the same length, so that only its content tells.
    let mut changed = layers[1].clone();
    changed[1 << 20] ^= 1;
    fs::write(kept(&node, &layers[1]), &changed).unwrap();
    let found = node.images.check(&[]).await.unwrap();
    let [finding] = &found.findings[..] else {
        panic!("{:?}", found.findings)
    };
    assert_eq!(finding.fault, StoreFault::Changed);
    assert_eq!(finding.digest, Some(Digest::of(&layers[1])));
    assert!(finding.detail.contains("damaged"), "{}", finding.detail);
    // Layers are still whole: nobody asks for the other blob again.
    let asked = times_asked(&registry, &layers[0]);
    let repaired = node.images.repair(&[], Arc::new(|_| {})).await.unwrap();
    assert_eq!((repaired.repaired, repaired.unrepaired), (1, 0));
    assert_eq!(times_asked(&registry, &layers[0]), asked);
    assert!(fs::read(kept(&node, &layers[1])).unwrap() == layers[1]);
    assert_eq!(node.images.check(&[]).await.unwrap().findings, []);
    let files = export(&node, &[&name], ArchiveForm::Oci).await.unwrap();
    assert_whole(&files, &manifest, &layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_blob_that_nobody_has_is_told_and_not_given_out() {
    let registry = FaultRegistry::start().await;
    let (_, layers) = push(&registry);
    let (node, name) = (keeping(), registry.image("1"));
    node.pull(&name).await.unwrap();
    fs::write(kept(&node, &layers[0]), b"short").unwrap();
    registry.break_with(|_, _| Fault::Status(404, String::new()));
    let report = node.images.repair(&[], Arc::new(|_| {})).await.unwrap();
    assert_eq!((report.repaired, report.unrepaired), (0, 1));
    let refused = export(&node, &[&name], ArchiveForm::Oci).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    registry.break_with(|_, _| Fault::None);
    node.pull(&name).await.unwrap();
    assert!(fs::read(kept(&node, &layers[0])).unwrap() == layers[0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs skopeo"]
async fn skopeo_reads_every_form() {
    let registry = FaultRegistry::start().await;
    let (manifest, layers) = push(&registry);
    let (node, name) = (keeping(), registry.image("1"));
    node.pull(&name).await.unwrap();
    let files = export(&node, &[&name], ArchiveForm::Docker).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (folder, archive) = write(&files, scratch.path());
    let (folder, archive) = (folder.display().to_string(), archive.display().to_string());
    for from in [
        format!("oci:{folder}:1"),
        format!("oci-archive:{archive}:1"),
    ] {
        let raw = skopeo(&["inspect", "--raw", &from]);
        assert_eq!(Digest::of(&raw), manifest, "{from}");
        let to = scratch.path().join("copy");
        skopeo(&[
            "copy",
            "--preserve-digests",
            &from,
            &format!("dir:{}", to.display()),
        ]);
        for layer in &layers {
            let copied = fs::read(to.join(Digest::of(layer).hex())).unwrap();
            assert!(copied == *layer, "{from}");
        }
        fs::remove_dir_all(to).unwrap();
    }
    let from = format!("docker-archive:{archive}:{name}");
    let config: Value = serde_json::from_slice(&skopeo(&["inspect", "--config", &from])).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
    // Docker-archives are read without their compression: the trees are the same.
    let to = scratch.path().join("loaded");
    skopeo(&["copy", &from, &format!("oci:{}:1", to.display())]);
    let other = Node::new();
    let imported = other.images.import(&to, &[], Arc::new(|_| {})).await;
    let here = node.images.status(&name).unwrap().unwrap();
    assert_eq!(imported.unwrap()[0].record.layers, here.record.layers);
}
