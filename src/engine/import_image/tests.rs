//! Archives of each kind, written as the tools write them.

use std::{fs, io::Write as _, path::PathBuf, sync::Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    content::Content, model::image::Platform, registry::fakes::HttpRegistry, snapshot::Layers,
};

fn images(root: &TempDir) -> Arc<Images> {
    let content = Arc::new(Content::open(&root.path().join("images")).unwrap());
    let layers = Arc::new(Layers::open(&root.path().join("layers"), "boot").unwrap());
    Images::open(Arc::<HttpRegistry>::default(), content, layers, vec![], 8).unwrap()
}

fn member(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    builder.append_data(&mut header, name, bytes).unwrap();
}

fn tar_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    members
        .iter()
        .for_each(|(name, bytes)| member(&mut builder, name, bytes));
    builder.into_inner().unwrap()
}

fn layer() -> Vec<u8> {
    tar_of(&[("file".to_owned(), b"content".to_vec())])
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({"config": {"Cmd": ["sh"]}, "rootfs": {"diff_ids": diff_ids}})
        .to_string()
        .into_bytes()
}

/// The files of an OCI layout with one image under this annotation.
fn layout(annotations: &Value) -> Vec<(String, Vec<u8>)> {
    let (layer, config) = (layer(), config(&[layer()]));
    let packed = zstd::encode_all(&layer[..], 1).unwrap();
    let descriptor = |bytes: &[u8]| json!({"digest": Digest::of(bytes), "size": bytes.len()});
    let manifest =
        json!({"schemaVersion": 2, "config": descriptor(&config), "layers": [descriptor(&packed)]})
            .to_string()
            .into_bytes();
    let mut entry = descriptor(&manifest);
    entry["annotations"] = annotations.clone();
    let platform = json!({"os": "linux", "architecture": Platform::host().architecture});
    entry["platform"] = platform;
    let mut foreign = descriptor(b"absent");
    foreign["platform"] = json!({"os": "windows", "architecture": "amd64"});
    let index = json!({"manifests": [foreign, entry]})
        .to_string()
        .into_bytes();
    let blob = |bytes: &Vec<u8>| {
        (
            format!("blobs/sha256/{}", Digest::of(bytes).hex()),
            bytes.clone(),
        )
    };
    vec![
        ("oci-layout".into(), b"{}".to_vec()),
        blob(&packed),
        blob(&config),
        blob(&manifest),
        ("index.json".into(), index),
    ]
}

async fn import(root: &TempDir, path: PathBuf, names: &[&str]) -> Result<Vec<Arc<Image>>> {
    let names: Vec<ImageRef> = names.iter().map(|name| name.parse().unwrap()).collect();
    images(root).import(&path, &names, Arc::new(|_| {})).await
}

async fn import_bytes(bytes: &[u8], names: &[&str]) -> Result<Vec<Arc<Image>>> {
    let root = TempDir::new().unwrap();
    let path = root.path().join("archive");
    fs::write(&path, bytes).unwrap();
    import(&root, path, names).await
}

fn tags(image: &Image) -> Vec<String> {
    image.record.tags.iter().map(ToString::to_string).collect()
}

fn docker_archive() -> Vec<(String, Vec<u8>)> {
    let (layer, config) = (layer(), config(&[layer(), layer()]));
    let manifest = json!([{"Config": "abc.json", "RepoTags": ["app:1", "reg.io/x/app:2"], "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    vec![
        ("one/layer.tar".into(), layer),
        ("abc.json".into(), config),
        ("manifest.json".into(), manifest.to_string().into_bytes()),
    ]
}

/// As `docker save` writes a layer that is there twice.
fn with_link(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    members
        .iter()
        .for_each(|(name, bytes)| member(&mut builder, name, bytes));
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder
        .append_link(&mut link, "two/layer.tar", "../one/layer.tar")
        .unwrap();
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn a_docker_archive_brings_its_names() {
    let tar = with_link(&docker_archive());
    let imported = import_bytes(&tar, &[]).await.unwrap();
    assert_eq!(
        tags(&imported[0]),
        ["docker.io/library/app:1", "reg.io/x/app:2"]
    );
    assert_eq!(
        imported[0].record.id.0,
        Digest::of(&config(&[layer(), layer()]))
    );
    assert_eq!(
        (
            imported[0].record.layers.len(),
            imported[0].record.digests.len()
        ),
        (2, 0)
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let again = import_bytes(&gzip.finish().unwrap(), &["other:3"])
        .await
        .unwrap();
    assert_eq!(tags(&again[0]), ["docker.io/library/other:3"]);
    assert_eq!(again[0].record.id, imported[0].record.id);
}

#[tokio::test]
async fn oci_layouts_are_read_from_folders_and_archives() {
    let files = layout(&json!({"io.containerd.image.name": "reg.io/app:1"}));
    let root = TempDir::new().unwrap();
    let folder = root.path().join("layout");
    for (name, bytes) in &files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let imported = import(&root, folder, &[]).await.unwrap();
    assert_eq!(
        (imported.len(), tags(&imported[0])),
        (1, vec!["reg.io/app:1".to_owned()])
    );
    assert_eq!(imported[0].record.digests.len(), 1);
    let bare = layout(&json!({"org.opencontainers.image.ref.name": "latest"}));
    let archived = import_bytes(&tar_of(&bare), &["mine:2"]).await.unwrap();
    assert_eq!(archived[0].record.id, imported[0].record.id);
    assert_eq!(tags(&archived[0]), ["docker.io/library/mine:2"]);
}

#[tokio::test]
async fn archives_that_cannot_be_used_are_refused_with_the_reason() {
    let reason = |result: Result<Vec<Arc<Image>>>| result.unwrap_err().chain();
    assert!(
        reason(import_bytes(b"no archive at all", &[]).await)
            .contains("cannot be read as an archive")
    );
    assert!(reason(import_bytes(&layer(), &[]).await).contains("no image archive"));
    assert!(
        reason(import_bytes(&with_link(&docker_archive()[1..]), &[]).await)
            .contains("one/layer.tar")
    );
    assert!(
        reason(import_bytes(&tar_of(&layout(&json!({}))[..3]), &[]).await)
            .contains("no image archive")
    );
    let mut damaged = layout(&json!({}));
    let other = tar_of(&[("other".to_owned(), vec![])]);
    damaged[1].1 = zstd::encode_all(&other[..], 1).unwrap();
    assert!(reason(import_bytes(&tar_of(&damaged), &[]).await).contains("descriptor says"));
    let name = format!("app@{}", Digest::of(b""));
    assert!(
        reason(import_bytes(&with_link(&docker_archive()), &[&name]).await).contains("not chosen")
    );
}

#[tokio::test]
async fn progress_names_the_layers() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("archive");
    fs::write(&path, tar_of(&layout(&json!({})))).unwrap();
    let stages = Arc::new(Mutex::new(Vec::new()));
    let sink: ProgressSink = {
        let stages = stages.clone();
        Arc::new(move |step| stages.lock().unwrap().push(step.stage))
    };
    images(&root).import(&path, &[], sink).await.unwrap();
    assert_eq!(
        *stages.lock().unwrap(),
        [Stage::Waiting, Stage::Unpacking, Stage::Done]
    );
}
