//! Images that no node should take: each is refused with an error that names the image and what is
//! wrong with it, leaves nothing behind, and the next pull goes on as if nothing had been.

use std::time::Duration;

use corten::{id::Digest, registry::Settings};
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
        self.refusal_of(words).await;
    }

    /// The same, with all of its words.
    async fn refusal_of(&self, words: &str) -> String {
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
        text
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
    let digest = Digest::of(&blob);
    for (wrong, words) in [
        (vec![b'x'; blob.len()], "malformed tar"),
        (blob[..9].to_vec(), &*digest.to_string()),
    ] {
        let broken = digest.clone();
        case.registry.break_with(
            move |asked, _| match asked.target.ends_with(broken.as_str()) {
                true => Fault::Body(wrong.clone()),
                false => Fault::None,
            },
        );
        case.refuses(words).await;
    }
    // Of the right size, and a layer.
    let (right, wrong) = (tar_of("a", b"right"), tar_of("a", b"wrong"));
    let digest = Digest::of(&right);
    case.registry.push_image("bad", &[(right, digest.clone())]);
    case.registry.break_with(
        move |asked, _| match asked.target.ends_with(digest.as_str()) {
            true => Fault::Body(wrong.clone()),
            false => Fault::None,
        },
    );
    case.refuses("layer blob is sha256:").await;
    case.registry.break_with(|_, _| Fault::None);
    case.refuses_layer(blob.clone(), &other, "uncompressed layer is sha256:")
        .await;
    case.refuses_layer(
        blob[..blob.len() / 2].to_vec(),
        &tar,
        "decompressing the layer (gzip)",
    )
    .await;
    case.refuses_layer(
        [&blob[..], b"tail"].concat(),
        &tar,
        "decompressing the layer (gzip)",
    )
    .await;
    case.refuses_layer(
        [&tar[..], b"tail"].concat(),
        &tar,
        "uncompressed layer is sha256:",
    )
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
    let digest = Digest::of(&blob);
    for size in [0, 1, blob.len() - 1, blob.len() + 1, 1 << 40] {
        let mut layer = case.registry.push_blob(&blob);
        layer["size"] = size.into();
        case.push(&config, &[layer]);
        // A host that says how many bytes come is not believed; of one that does not as many are taken as
        // there may be.
        let measured = match size > 1 << 30 {
            false => [format!("{} bytes", blob.len()), format!("{size} bytes")],
            // Asked for in parts.
            true => [format!("/{}\"", blob.len()), format!("of {size}")],
        };
        let unmeasured = match size {
            0 => "layer blob is sha256:e3b0c442".to_owned(),
            _ => format!("{size} bytes"),
        };
        for (fault, words) in [
            (Fault::None, &measured[..]),
            (Fault::Unmeasured(blob.clone()), &[unmeasured]),
        ] {
            let broken = digest.clone();
            case.registry.break_with(move |asked, _| {
                match asked.target.ends_with(broken.as_str()) {
                    true => fault.clone(),
                    false => Fault::None,
                }
            });
            let text = case.refusal_of(digest.as_str()).await;
            for words in words {
                assert!(text.contains(words), "{words:?} is not in: {text}");
            }
        }
    }
    case.registry.break_with(|_, _| Fault::None);
    let layer = case.registry.push_blob(&blob);
    for size in [0, 1, 5 << 20] {
        let mut config = config.clone();
        config["size"] = size.into();
        case.push(&config, std::slice::from_ref(&layer));
        case.refuses(&format!("{size} bytes")).await;
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
async fn absolute_names_are_names_in_the_layer() {
    let case = Case::new().await;
    let outside = TempDir::new().unwrap();
    let at = |name: &str| outside.path().join(name).display().to_string();
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, EntryType::Regular, at("file").as_bytes(), b"");
    let (link, target) = (at("link"), at("file"));
    append(
        &mut builder,
        EntryType::Link,
        link.as_bytes(),
        target.as_bytes(),
    );
    let tar = builder.into_inner().unwrap();
    case.registry
        .push_image("bad", &[(gzip(&tar), Digest::of(&tar))]);
    case.node.pull(&case.registry.image("bad")).await.unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(case.node.file(at("link").trim_start_matches('/')), b"");
    // A hard link to what is only outside has nothing to link to.
    std::fs::write(at("secret"), "s").unwrap();
    let tar = raw(EntryType::Link, b"stolen", at("secret").as_bytes());
    case.node
        .images
        .remove(&case.registry.image("bad"))
        .await
        .unwrap();
    case.refuses_tar(tar, "secret").await;
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
        case.refuses_tar(tar, "extended header of 4294967296 bytes")
            .await;
    }
    let mut huge = header(EntryType::Regular);
    huge.as_old_mut().name[0] = b'a';
    huge.set_size(u64::MAX >> 1);
    huge.set_cksum();
    case.refuses_tar(huge.as_bytes().to_vec(), "ends inside an entry")
        .await;
    // 4 GiB of headers, each of a size that is read.
    let mut one = header(EntryType::XHeader);
    one.set_size(1 << 20);
    one.set_cksum();
    let comment = [
        b"1048576 comment=".as_slice(),
        &vec![b'x'; (1 << 20) - 17],
        b"\n",
    ]
    .concat();
    let one = zstd::encode_all(&[one.as_bytes(), &comment[..]].concat()[..], 1).unwrap();
    case.refuses_layer(one.repeat(4096), b"", "too many extended headers")
        .await;
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
    case.node.pull(&case.registry.image("later")).await.unwrap();
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
    case.refuses("the image has 501 layers, at most 500").await;
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
