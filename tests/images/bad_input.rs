//! Images that no node should take: each is refused with an error that names the image and what is
//! wrong with it, leaves nothing behind, and the next pull goes on as if nothing had been.

use std::{process::Command, time::Duration};

use corten::{error::Kind, id::Digest, registry::Settings};
use serde_json::{Value, json};
use tar::EntryType;
use tempfile::TempDir;

use super::{
    fault_registry::{Fault, FaultRegistry},
    node::{Node, gzip, header, layer_of, noise, tar_of},
};

/// A registry with a good image, and a node.
struct Case {
    registry: FaultRegistry,
    node: Node,
}

impl Case {
    async fn new() -> Self {
        let registry = FaultRegistry::start().await;
        registry.push_image("good", &[layer_of("good", b"good")]);
        Self {
            registry,
            node: Node::new(),
        }
    }

    /// The image `bad` is refused in such words; the good one is pulled all the same.
    async fn refuses(&self, words: &str) {
        let name = self.registry.image("bad");
        let (_, text) = self.node.refusal(&name).await;
        assert!(text.contains(words), "{words:?} is not in: {text}");
        assert!(text.contains(&name), "{text}");
        self.node.pull(&self.registry.image("good")).await.unwrap();
        self.node
            .images
            .remove(&self.registry.image("good"))
            .await
            .unwrap();
    }

    /// An image of one layer with these bytes, whose tar is said to have that digest.
    async fn refuses_layer(&self, blob: Vec<u8>, tar: &[u8], words: &str) {
        let digest = Digest::of(&blob);
        self.registry.push_image("bad", &[(blob, Digest::of(tar))]);
        let (_, text) = self.node.refusal(&self.registry.image("bad")).await;
        assert!(
            text.contains(digest.as_str()),
            "the layer is not named: {text}"
        );
        self.refuses(words).await;
    }

    async fn refuses_tar(&self, tar: Vec<u8>, words: &str) {
        self.refuses_layer(gzip(&tar), &tar, words).await;
    }

    fn push(&self, config: &Value, layers: &[Value]) {
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.registry.push_manifest("bad", &manifest);
    }
}

/// A tar of one entry with these raw names.
fn raw(kind: EntryType, name: &[u8], link: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, kind, name, link);
    builder.into_inner().unwrap()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &[u8]) {
    let mut header = header(kind);
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    builder.append(&header, &b""[..]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_not_what_they_should_be() {
    let case = Case::new().await;
    let (tar, other) = (tar_of("a", &noise(5000)), tar_of("b", &noise(5000)));
    let blob = gzip(&tar);
    let layer = (blob.clone(), Digest::of(&tar));
    case.registry.push_image("bad", &[layer]);
    let (digest, wrong) = (Digest::of(&blob), vec![b'x'; blob.len()]);
    case.registry.break_with(
        move |asked, _| match asked.target.ends_with(digest.as_str()) {
            true => Fault::Body(wrong.clone()),
            false => Fault::None,
        },
    );
    case.refuses("layer").await;
    case.registry.break_with(|_, _| Fault::None);
    case.refuses_layer(blob.clone(), &other, "uncompressed layer is sha256:")
        .await;
    case.refuses_layer(
        blob[..blob.len() / 2].to_vec(),
        &tar,
        "decompressing the layer (gzip)",
    )
    .await;
    case.refuses_layer([&blob[..], b"tail"].concat(), &tar, "layer")
        .await;
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    case.refuses_layer(
        zstd[..zstd.len() / 2].to_vec(),
        &tar,
        "decompressing the layer (zstd)",
    )
    .await;
    case.refuses_layer(
        [&zstd[..], b"tail"].concat(),
        &tar,
        "decompressing the layer (zstd)",
    )
    .await;
    case.refuses_tar(tar[..700].to_vec(), "tar").await;
    case.refuses_tar(noise(4096), "malformed tar").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_are_not_the_descriptors() {
    let case = Case::new().await;
    let (blob, diff_id) = layer_of("a", &noise(5000));
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = case.registry.push_blob(config.to_string().as_bytes());
    for size in [0, 1, blob.len() - 1, blob.len() + 1, 1 << 40] {
        let mut layer = case.registry.push_blob(&blob);
        layer["size"] = size.into();
        case.push(&config, &[layer]);
        case.refuses(Digest::of(&blob).as_str()).await;
    }
    let layer = case.registry.push_blob(&blob);
    for size in [0, 1, 5 << 20] {
        let mut config = config.clone();
        config["size"] = size.into();
        case.push(&config, std::slice::from_ref(&layer));
        case.refuses("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_out_of_the_layer() {
    let case = Case::new().await;
    let (file, link, symlink) = (EntryType::Regular, EntryType::Link, EntryType::Symlink);
    for name in ["../escape", "a/../../escape", ".."] {
        case.refuses_tar(
            raw(file, name.as_bytes(), b""),
            "has a name that is not allowed",
        )
        .await;
    }
    case.refuses_tar(
        raw(link, b"stolen", b"../../../etc/passwd"),
        "has a name that is not allowed",
    )
    .await;
    // To a file that no layer has: it is found out at the commit.
    case.refuses_tar(raw(link, b"stolen", b"/etc/passwd"), "etc/passwd")
        .await;
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, symlink, b"out", b"out");
    append(&mut builder, file, b"out/file", b"");
    case.refuses_tar(builder.into_inner().unwrap(), "symbolic links")
        .await;
    let long = "x".repeat(64 << 10);
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([("path", long.as_bytes())])
        .unwrap();
    append(&mut builder, file, b"short", b"");
    case.refuses_tar(
        builder.into_inner().unwrap(),
        "has a name that is not allowed",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_promise_too_much() {
    let case = Case::new().await;
    for kind in [
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNULongName,
    ] {
        let mut header = header(kind);
        header.set_size(4 << 30);
        header.set_cksum();
        let tar = [header.as_bytes(), &[b'x'; 2048][..]].concat();
        case.refuses_tar(tar, "malformed tar").await;
    }
    let mut huge = header(EntryType::Regular);
    huge.as_old_mut().name[0] = b'a';
    huge.set_size(u64::MAX >> 1);
    huge.set_cksum();
    case.refuses_tar(huge.as_bytes().to_vec(), "layer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_become_links_stay_inside() {
    let case = Case::new().await;
    let outside = TempDir::new().unwrap();
    let target = outside.path().to_str().unwrap().as_bytes();
    let (directory, symlink, file) = (EntryType::Directory, EntryType::Symlink, EntryType::Regular);
    let mut same = tar::Builder::new(Vec::new());
    append(&mut same, directory, b"d", b"");
    append(&mut same, symlink, b"d", target);
    append(&mut same, file, b"d/file", b"");
    let same = same.into_inner().unwrap();
    let layer = (gzip(&same), Digest::of(&same));
    case.registry.push_image("same", &[layer]);
    // As in a container: the link leads to a directory of that name beneath the root.
    case.node.pull(&case.registry.image("same")).await.unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    // In a later layer it is a tree of its own, and what it shows is for overlayfs to say.
    let (lower, upper) = (raw(directory, b"d", b""), raw(symlink, b"d", target));
    let top = raw(file, b"d/file", b"");
    let layers = [lower, upper, top].map(|tar| (gzip(&tar), Digest::of(&tar)));
    case.registry.push_image("later", &layers);
    let _ = case.node.pull(&case.registry.image("later")).await;
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_and_configs_that_are_none() {
    let case = Case::new().await;
    let registry = &case.registry;
    let (blob, diff_id) = layer_of("a", b"x");
    let layer = registry.push_blob(&blob);
    for (config, words) in [
        (&b"{"[..], "config"),
        (b"[]", "config"),
        (
            b"{\"rootfs\": {\"diff_ids\": []}}",
            "the manifest has 1 layers, the config 0",
        ),
        (b"{\"rootfs\": {\"diff_ids\": [\"sha256:00\"]}}", "config"),
        (
            b"{\"rootfs\": {\"diff_ids\": 99999999999999999999}}",
            "config",
        ),
    ] {
        let config = registry.push_blob(config);
        case.push(&config, std::slice::from_ref(&layer));
        case.refuses(words).await;
    }
    let config = json!({"config": {"User": "4294967296"}, "rootfs": {"diff_ids": [diff_id]}});
    let config = registry.push_blob(config.to_string().as_bytes());
    case.push(&config, &vec![layer.clone(); 501]);
    case.refuses("501 layers").await;
    let mut foreign = layer.clone();
    foreign["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    case.push(&config, &[foreign]);
    case.refuses("foreign layer").await;
    for (manifest, words) in [
        (json!({}), "neither a config nor manifests"),
        (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
        (
            json!({"config": config, "layers": [], "manifests": []}),
            "an image as well as an index",
        ),
        (json!({"schemaVersion": 2, "manifests": []}), "no image for"),
        (json!("x".repeat(5 << 20)), "sent more than 4194304 bytes"),
    ] {
        registry.push_manifest("bad", &manifest);
        case.refuses(words).await;
    }
    let mut next = registry.push_manifest("bad", &json!({"schemaVersion": 2, "manifests": []}));
    for _ in 0..4 {
        let entry = json!({"digest": next, "size": 1});
        next = registry.push_manifest("bad", &json!({"schemaVersion": 2, "manifests": [entry]}));
    }
    case.refuses("leads to more than 3 others").await;
    // A uid that overflows is a name, and no root.
    case.push(&config, &[layer]);
    case.node.pull(&registry.image("bad")).await.unwrap();
}

/// The other half of the next test, in a mount namespace of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs within root_a_full_disk_is_told_and_left_as_it_was"]
async fn a_pull_onto_small_disks() {
    if std::env::var("CORTEN_TEST_SMALL_DISKS").is_err() {
        return;
    }
    let registry = FaultRegistry::start().await;
    let mut many = tar::Builder::new(Vec::new());
    for number in 0..200 {
        append(
            &mut many,
            EntryType::Regular,
            format!("f{number}").as_bytes(),
            b"",
        );
    }
    let many = many.into_inner().unwrap();
    registry.push_image("many", &[(gzip(&many), Digest::of(&many))]);
    registry.push_image(
        "large",
        &[
            layer_of("a", &noise(150_000)),
            layer_of("b", &noise(100_000)),
        ],
    );
    registry.push_image("good", &[layer_of("good", b"good")]);
    for kilobytes in (64..300).step_by(12) {
        full(&registry, "large", &format!("size={kilobytes}k")).await;
    }
    for inodes in (30..220).step_by(15) {
        full(&registry, "many", &format!("nr_inodes={inodes}")).await;
    }
    let disk = Disk::new("size=1m");
    let node = Node::on(disk.place.path());
    disk.mount("remount,ro");
    let error = node.pull(&registry.image("good")).await.unwrap_err();
    assert!(error.chain().contains("Read-only"), "{}", error.chain());
    disk.mount("remount,rw");
    node.holds_nothing().await;
    node.pull(&registry.image("good")).await.unwrap();
}

/// The image does not fit, which is said and leaves nothing, or it is whole.
async fn full(registry: &FaultRegistry, tag: &str, size: &str) {
    let disk = Disk::new(size);
    let node = Node::on(disk.place.path());
    match node.pull(&registry.image(tag)).await {
        Ok(_) => assert_eq!(node.images.check(&[]).await.unwrap().findings, []),
        Err(error) => {
            assert_eq!(
                error.kind(),
                Kind::ResourceExhausted,
                "{size}: {}",
                error.chain()
            );
            node.holds_nothing().await;
            node.pull(&registry.image("good")).await.unwrap();
        }
    }
}

/// A file system in memory; it ends with the mount namespace.
struct Disk {
    place: TempDir,
}

impl Disk {
    fn new(options: &str) -> Self {
        let place = TempDir::new().unwrap();
        let disk = Self { place };
        disk.mount(options);
        disk
    }

    fn mount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(self.place.path());
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.place.path())
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn root_a_full_disk_is_told_and_left_as_it_was() {
    let mut child = Command::new("unshare");
    child
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "bad_input::a_pull_onto_small_disks"]);
    child.env("CORTEN_TEST_SMALL_DISKS", "1");
    let ended = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stdout)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_at_a_time_ends() {
    let registry = FaultRegistry::start().await;
    registry.push_image("bad", &[layer_of("a", &noise(50_000))]);
    registry.break_with(|asked, _| match asked.is_blob() {
        true => Fault::Slowly(1, Duration::from_millis(20)),
        false => Fault::None,
    });
    let node = Node::with(Settings {
        progress_timeout: Duration::from_millis(300),
        first_pause: Duration::from_millis(1),
        ..Settings::default()
    });
    let (_, text) = node.refusal(&registry.image("bad")).await;
    assert!(text.contains("made no progress"), "{text}");
}
