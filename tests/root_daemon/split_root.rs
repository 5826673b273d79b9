//! The root is split: images and layers are on one file system, what containers write on another.

use crate::fault_registry::FaultRegistry;
use crate::node::{Node, in_a_node};
use crate::pods::{self, shell};
use crate::wait::until_true;
use corten::id::Digest;
use corten_proto::runtime::v1::*;
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = "/var/lib/corten";
const CONTAINERS: &str = "/var/lib/corten/containers";
/// Room for what a container writes here.
const DISK: u64 = 96 << 20;
/// 10 MB and 100 files in a directory.
const WRITE: &str = "dd if=/dev/zero of=/big bs=1M count=10 2>/dev/null; mkdir /many; i=0; \
    while [ $i -lt 100 ]; do echo $i > /many/$i; i=$((i+1)); done; sync; echo ready; exec tail -f /dev/null";

/// An ext4 of its own, mounted until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(scratch: &Path, place: &str) -> Self {
        let image = scratch.join("disk");
        File::create(&image).unwrap().set_len(DISK).unwrap();
        done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        let mut mount = Command::new("mount");
        done(mount.args(["-o", "loop"]).arg(&image).arg(place));
        Self(place.into())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        done(Command::new("umount").arg(&self.0));
    }
}

fn done(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Bytes and inodes of these trees, each inode once.
fn taken(trees: impl IntoIterator<Item = PathBuf>) -> (u64, u64) {
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    let mut left: Vec<_> = trees.into_iter().collect();
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if seen.insert(metadata.ino()) {
            bytes += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            left.extend(inside(&path));
        }
    }
    (bytes, seen.len() as u64)
}

fn inside(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// What images take: layers, manifests and configs, records.
fn of_images() -> (u64, u64) {
    let mut trees = inside(&Path::new(ROOT).join("layers"));
    trees.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    for room in ["images/blobs", "images/records"] {
        trees.extend(inside(&Path::new(ROOT).join(room)));
    }
    taken(trees)
}

/// The directory and the use of the images' file system, and of the containers'.
async fn told(node: &Node) -> [(String, (u64, u64)); 2] {
    let request = ImageFsInfoRequest {};
    let info = node.cri.images().image_fs_info(request).await.unwrap();
    let info = info.into_inner();
    let one = |all: &[FilesystemUsage]| {
        let [usage] = all else { panic!("{all:?}") };
        let place = usage.fs_id.as_ref().unwrap().mountpoint.clone();
        let bytes = usage.used_bytes.as_ref().unwrap().value;
        (place, (bytes, usage.inodes_used.as_ref().unwrap().value))
    };
    [
        one(&info.image_filesystems),
        one(&info.container_filesystems),
    ]
}

fn named(name: &str) -> Option<ImageSpec> {
    Some(ImageSpec {
        image: name.to_owned(),
        ..Default::default()
    })
}

/// Pulls an image, and takes it away again.
async fn pull_and_remove(node: &Node) {
    let registry = FaultRegistry::start().await;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3 << 20);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", &vec![7; 3 << 20][..])
        .unwrap();
    let tar = tar.into_inner().unwrap();
    let digest = Digest::of(&tar);
    registry.push_image("1", &[(tar, digest)]);
    let before = told(node).await[0].1;
    let image = registry.image("1");
    let request = PullImageRequest {
        image: named(&image),
        ..Default::default()
    };
    node.cri.images().pull_image(request).await.unwrap();
    let pulled = told(node).await[0].1;
    assert!(pulled.0 >= before.0 + (3 << 20), "{pulled:?}");
    assert_eq!(pulled, of_images());
    let request = RemoveImageRequest {
        image: named(&image),
    };
    node.cri.images().remove_image(request).await.unwrap();
    let gone = async || told(node).await[0].1 == before;
    until_true("the image takes nothing any more", 20, gone).await;
}

async fn write_and_remove(node: &Node) {
    let pod = node.run(pods::pod("pod")).await;
    let id = node.launch(&pod, shell("writer", WRITE)).await;
    node.await_ready(&id).await;
    let upper = Path::new(CONTAINERS).join(&id).join("upper");
    let [_, (place, _)] = told(node).await;
    assert_eq!(place, CONTAINERS);
    let is_right = async || {
        let [_, (_, told)] = told(node).await;
        told == taken(inside(&upper))
    };
    until_true("what it has written is told", 40, is_right).await;
    let (bytes, inodes) = told(node).await[1].1;
    assert!(bytes >= 10 << 20 && inodes >= 102, "{bytes} {inodes}");
    node.cri.stop(&id, 0).await.unwrap();
    let ended = told(node).await[1].1;
    assert_eq!(ended, (bytes, inodes), "what has ended takes it still");
    node.cri.remove(&id).await.unwrap();
    let is_empty = async || {
        let trash = Path::new(CONTAINERS).join(".trash");
        told(node).await[1].1 == (0, 0) && inside(&trash).is_empty()
    };
    until_true("nothing is left of it", 20, is_empty).await;
    let names = inside(Path::new(CONTAINERS));
    assert_eq!(names.len(), 2, "lost+found and the trash: {names:?}");
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_images_and_containers_on_two_file_systems() {
    in_a_node(async |node| {
        node.kill_daemon();
        let disk = Disk::mount(&node.scratch, CONTAINERS);
        node.start_daemon().await;
        let [(images, used), (containers, unused)] = told(node).await;
        assert_eq!(images, format!("{ROOT}/layers"));
        assert_eq!((containers.as_str(), unused), (CONTAINERS, (0, 0)));
        assert_eq!(used, of_images());
        pull_and_remove(node).await;
        write_and_remove(node).await;
        node.remove_all().await;
        node.kill_daemon();
        drop(disk);
        node.start_daemon().await;
    });
}
