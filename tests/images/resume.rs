//! Pulls that were cut off in the middle of a layer: the next one, of another daemon on the same disk,
//! asks for the bytes that are not there. (`root_daemon/resumed_pulls.rs` does it with the real daemon and
//! `kill -9`.)

use std::{
    fs::{self, File},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use corten::id::Digest;

use super::{
    fault_registry::{Asked, Fault, FaultRegistry},
    node::{Node, layer_of, noise},
};

const LARGE: usize = 5 << 20;
/// Where the first download stops.
const STOP: usize = 3 << 20;

/// An image of a small layer and a large one.
struct Cut {
    registry: FaultRegistry,
    large: Vec<u8>,
    content: Vec<u8>,
    layers: Vec<(Vec<u8>, Digest)>,
}

impl Cut {
    async fn new() -> Self {
        let registry = FaultRegistry::start().await;
        let content = noise(LARGE);
        let layers = vec![layer_of("small", b"small"), layer_of("file", &content)];
        registry.push_image("1", &layers);
        Self {
            registry,
            large: layers[1].0.clone(),
            content,
            layers,
        }
    }

    fn name(&self) -> String {
        Digest::of(&self.large).to_string()
    }

    fn partial(&self, node: &Node) -> PathBuf {
        let name = Digest::of(&self.large);
        node.root.path().join("images/partial").join(name.hex())
    }

    /// A node whose daemon ended while the large layer's blob stood still after [`STOP`] bytes.
    async fn off(&self) -> Node {
        let name = self.name();
        self.registry
            .break_with(move |asked, _| match asked.target.ends_with(&name) {
                true => Fault::HoldAfter(STOP),
                false => Fault::None,
            });
        let node = Node::new();
        self.pull_until(&node, || {
            let length = fs::metadata(self.partial(&node)).map_or(0, |it| it.len());
            let small = node.images.fs_info().used_bytes > 0;
            length == STOP as u64 && small
        })
        .await;
        let node = node.restarted().await;
        assert!(node.images.list(None).unwrap().is_empty());
        node
    }

    /// Pulls until this holds, and gives the pull up.
    async fn pull_until(&self, node: &Node, holds: impl Fn() -> bool) {
        let name = self.registry.image("1");
        let pull = node.pull(&name);
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = pull => panic!("the registry stands still"),
            () = wait => {}
        }
    }

    /// What was asked for of blobs: the name, and the bytes.
    fn asked(&self, name: &str) -> Vec<Option<(usize, Option<usize>)>> {
        let asked = self.registry.asked();
        let asked = asked.iter().filter(|asked| asked.target.ends_with(name));
        asked.map(Asked::range).collect()
    }
}

/// Nothing of the way is left once the image is there.
fn assert_clean(node: &Node) {
    for folder in ["images/partial", "images/pulls"] {
        let left: Vec<_> = fs::read_dir(node.root.path().join(folder))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_disk_is_not_asked_for_again() {
    let cut = Cut::new().await;
    let node = cut.off().await;
    cut.registry.break_with(|_, _| Fault::None);
    node.pull(&cut.registry.image("1")).await.unwrap();
    assert_eq!(cut.asked(&cut.name()), [Some((STOP, None))]);
    let small = Digest::of(&cut.layers[0].0).to_string();
    assert_eq!(cut.asked(&small), [], "a whole layer");
    assert!(node.file("file") == cut.content);
    assert_clean(&node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_ranges_is_read_from_the_front_after_a_restart_too() {
    let cut = Cut::new().await;
    let node = cut.off().await;
    cut.registry.break_with(|_, _| Fault::NoRanges);
    node.pull(&cut.registry.image("1")).await.unwrap();
    assert!(node.file("file") == cut.content);
    assert_clean(&node);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_the_disk_is_fetched_from_the_front() {
    let cut = Cut::new().await;
    for at in [0, 7, STOP / 2] {
        let node = cut.off().await;
        let mut bytes = fs::read(cut.partial(&node)).unwrap();
        bytes[at] ^= 1;
        fs::write(cut.partial(&node), bytes).unwrap();
        cut.registry.break_with(|_, _| Fault::None);
        node.pull(&cut.registry.image("1")).await.unwrap();
        assert_eq!(cut.asked(&cut.name()), [Some((STOP, None)), None]);
        assert!(node.file("file") == cut.content);
        assert_clean(&node);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_waited_for_the_one_below_is_not_fetched_again() {
    let cut = Cut::new().await;
    let lower = layer_of("lower", &noise(LARGE + 1));
    let layers = [lower.clone(), cut.layers[1].clone()];
    cut.registry.push_image("1", &layers);
    let name = Digest::of(&lower.0).to_string();
    cut.registry
        .break_with(move |asked, _| match asked.target.ends_with(&name) {
            true => Fault::HoldAfter(STOP),
            false => Fault::None,
        });
    let node = Node::new();
    let whole = cut.large.len() as u64;
    let below = cut
        .partial(&node)
        .with_file_name(Digest::of(&lower.0).hex());
    let length = |path: &PathBuf| fs::metadata(path).map_or(0, |it| it.len());
    cut.pull_until(&node, || {
        length(&cut.partial(&node)) == whole && length(&below) == STOP as u64
    })
    .await;
    let node = node.restarted().await;
    cut.registry.break_with(|_, _| Fault::None);
    node.pull(&cut.registry.image("1")).await.unwrap();
    assert_eq!(cut.asked(&cut.name()), []);
    let lower = Digest::of(&lower.0).to_string();
    assert_eq!(cut.asked(&lower), [Some((STOP, None))]);
    assert!(node.file("file") == cut.content);
    assert_clean(&node);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_comes_back_to_goes() {
    let cut = Cut::new().await;
    let node = cut.off().await;
    node.images.reclaim().await.unwrap();
    assert!(cut.partial(&node).exists(), "it has an hour");
    assert!(node.images.fs_info().used_bytes > 0);
    for pull in fs::read_dir(node.root.path().join("images/pulls")).unwrap() {
        let file = File::options().write(true).open(pull.unwrap().path());
        let old = SystemTime::now() - Duration::from_secs(3602);
        file.unwrap().set_modified(old).unwrap();
    }
    let node = node.restarted().await;
    node.holds_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_removed_leaves_nothing_of_its_pull() {
    let cut = Cut::new().await;
    let node = cut.off().await;
    let pulls = node.root.path().join("images/pulls");
    let pull = fs::read_dir(&pulls)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let note = fs::read(&pull).unwrap();
    cut.registry.break_with(|_, _| Fault::None);
    let name = cut.registry.image("1");
    node.pull(&name).await.unwrap();
    // As a kill between the image and the end of its pull leaves it.
    fs::write(&pull, note).unwrap();
    node.images.remove(&name).await.unwrap().unwrap();
    node.holds_nothing().await;
    assert_clean(&node);
}
