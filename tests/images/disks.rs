//! Disks that end: at any page and at any inode of a pull or an import the disk is full, or it is
//! read-only. The image is whole, or the error names it and says why, and the store is as it was
//! before: the same names in the same places.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use corten::error::{Error, Kind};
use serde_json::json;
use tempfile::TempDir;

use super::{
    fault_registry::FaultRegistry,
    forge::{Layer, directory, file, hard_link, symlink},
    node::{Node, gzip, layer_of, noise},
};

/// Tells the other half of these tests that it is in a mount namespace of its own.
const INSIDE: &str = "CORTEN_TEST_SMALL_DISKS";
/// The least that a store takes of its own: pages of 4 KiB, and inodes.
const STORE: (usize, usize) = (10, 14);
/// So many sizes in a row must be enough for the image: then all of it has been tried.
const ENOUGH: usize = 3;

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

/// All names of a node's store.
fn names(node: &Node) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    gather(node.root.path(), &mut found);
    found
}

fn gather(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.insert(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(&entry.path(), found);
        }
    }
}

/// What is thrown away is taken away in the background.
async fn is_as_before(node: &Node, before: &BTreeSet<PathBuf>, what: &str) {
    for _ in 0..500 {
        node.images.reclaim().await.unwrap();
        if names(node) == *before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left: Vec<_> = names(node).difference(before).cloned().collect();
    panic!("{what}: left behind: {left:?}");
}

/// What is put on the disk, and from where.
enum Source {
    Registry(String),
    Archive(PathBuf),
}

impl Source {
    async fn bring(&self, node: &Node) -> Result<(), Error> {
        let path = match self {
            Self::Registry(name) => return node.pull(name).await.map(drop),
            Self::Archive(path) => path,
        };
        let names = ["reg/imported:1".parse().unwrap()];
        let imported = node.images.import(path, &names, Arc::new(|_| {}));
        imported.await.map(drop)
    }

    fn name(&self) -> String {
        match self {
            Self::Registry(name) => name.clone(),
            Self::Archive(path) => path.display().to_string(),
        }
    }
}

/// Whether the image is whole on a disk of this size. If not, that is said and nothing is left; a
/// smaller image can still be had.
async fn fits(source: &Source, good: &str, options: &str) -> bool {
    let disk = Disk::new(options);
    let node = Node::on(disk.place.path());
    let before = names(&node);
    match source.bring(&node).await {
        Ok(()) => {
            assert_eq!(node.images.check(&[]).await.unwrap().findings, []);
            true
        }
        Err(error) => {
            let text = error.chain();
            assert_eq!(error.kind(), Kind::ResourceExhausted, "{options}: {text}");
            for words in [&*source.name(), "No space left on device"] {
                assert!(text.contains(words), "{options}: {text}");
            }
            assert!(node.images.list(None).unwrap().is_empty());
            is_as_before(&node, &before, options).await;
            // It may be too large as well, where there is next to nothing.
            if let Err(error) = node.pull(good).await {
                assert_eq!(error.kind(), Kind::ResourceExhausted, "{}", error.chain());
                is_as_before(&node, &before, options).await;
            }
            false
        }
    }
}

/// Each size from the least on, until the image fits for good; how many were too small.
async fn sweep(
    source: &Source,
    good: &str,
    from: usize,
    option: impl Fn(usize) -> String,
) -> usize {
    let (mut refused, mut enough) = (0, 0);
    for size in from.. {
        match fits(source, good, &option(size)).await {
            true => enough += 1,
            false => (refused, enough) = (refused + 1, 0),
        }
        if enough == ENOUGH {
            break;
        }
    }
    refused
}

/// Files, links and directories of their own, and files of one page and more.
fn many() -> Layer {
    let folders = (0..20).map(|number| directory(&format!("d{number}")));
    let files = (0..40).map(|number| file(&format!("d{}/f{number}", number % 20), b"x"));
    let links = (0..20).map(|number| symlink(&format!("l{number}"), "d1"));
    let hard = (0..20).map(|number| hard_link(&format!("h{number}"), "d1/f1"));
    let implied = (0..10).map(|number| file(&format!("i/{number}/{number}"), b"x"));
    let all = folders.chain(files).chain(links).chain(hard).chain(implied);
    Layer::of(&all.collect::<Vec<_>>())
}

/// An archive of `docker save`, compressed, so that it is copied first.
fn archive(folder: &Path) -> PathBuf {
    let layer = Layer::of(&[file("a", &noise(50_000)), file("b", b"b")]);
    let config = json!({"rootfs": {"diff_ids": [layer.diff_id()]}});
    let manifest = json!([{"Config": "config", "Layers": ["layer"]}]);
    let members = [
        ("layer", layer.tar),
        ("config", config.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    let path = folder.join("archive.tar.gz");
    fs::write(&path, gzip(&builder.into_inner().unwrap())).unwrap();
    path
}

/// The other half of the next test, in a mount namespace of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs within root_a_full_disk_is_told_and_left_as_it_was"]
async fn images_onto_small_disks() {
    if std::env::var(INSIDE).is_err() {
        return;
    }
    let registry = FaultRegistry::start().await;
    let good = registry.image("good");
    registry.push_image("good", &[layer_of("good", b"good")]);
    let many = many();
    registry.push_image("many", &[(many.blob(), many.diff_id())]);
    let layers = [("a", 150_000), ("b", 100_000)];
    registry.push_image(
        "large",
        &layers.map(|(name, size)| layer_of(name, &noise(size))),
    );
    let elsewhere = TempDir::new().unwrap();
    let archive = Source::Archive(archive(elsewhere.path()));
    let large = Source::Registry(registry.image("large"));
    let many = Source::Registry(registry.image("many"));
    let pages = |number: usize| format!("size={}k", 4 * number);
    let inodes = |number: usize| format!("nr_inodes={number}");
    for (source, least) in [(&large, 50), (&many, 30), (&archive, 10)] {
        let refused = sweep(source, &good, STORE.0, pages).await;
        assert!(refused >= least, "{}: {refused} sizes", source.name());
    }
    for (source, least) in [(&large, 5), (&many, 90), (&archive, 4)] {
        let refused = sweep(source, &good, STORE.1, inodes).await;
        assert!(refused >= least, "{}: {refused} numbers", source.name());
    }
    on_a_read_only_disk(&[large, archive], &good).await;
}

async fn on_a_read_only_disk(sources: &[Source], good: &str) {
    for source in sources {
        let disk = Disk::new("size=4m");
        let node = Node::on(disk.place.path());
        let before = names(&node);
        disk.mount("remount,ro");
        let text = source.bring(&node).await.unwrap_err().chain();
        for words in [&*source.name(), "Read-only file system"] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(names(&node), before);
        disk.mount("remount,rw");
        is_as_before(&node, &before, "read-only").await;
        node.pull(good).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn root_a_full_disk_is_told_and_left_as_it_was() {
    let mut child = Command::new("unshare");
    child
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "disks::images_onto_small_disks"]);
    child.env(INSIDE, "1");
    let ended = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success(), "{said}");
}
