//! The daemon ends in the middle of a layer, by `kill -9` or as it is told: the next one asks the registry
//! for the bytes that are not on the disk.

use crate::fault_registry::{Asked, Fault, FaultRegistry};
use crate::node::{Node, in_a_node};
use crate::wait::until_true;
use corten::id::Digest;
use corten_proto::runtime::v1::*;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const LARGE: usize = 40 << 20;
/// The first download stops here, and the second one there: past the part that tells how fast a host is.
const STOPS: [usize; 2] = [5 << 20, 21 << 20];

/// A layer of one file that cannot be compressed.
fn layer(name: &str, length: usize) -> (Vec<u8>, Digest) {
    let mut random = fastrand::Rng::with_seed(length as u64);
    let content: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(length as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, &content[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&tar).unwrap();
    (gzip.finish().unwrap(), Digest::of(&tar))
}

fn request(name: &str) -> PullImageRequest {
    PullImageRequest {
        image: Some(ImageSpec {
            image: name.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn partial(blob: &[u8]) -> PathBuf {
    let digest = Digest::of(blob);
    Path::new("/var/lib/corten/images/partial").join(digest.hex())
}

fn length(blob: &[u8]) -> usize {
    fs::metadata(partial(blob)).map_or(0, |it| usize::try_from(it.len()).unwrap())
}

/// Lets the blob come up to this byte, and begins a pull that stands still there.
async fn pull_up_to(node: &Node, registry: &FaultRegistry, blob: &[u8], stop: usize) {
    let name = Digest::of(blob).to_string();
    registry.break_with(move |asked, _| {
        let (from, last) = asked.range().unwrap_or_default();
        let is_it = asked.target.ends_with(&name);
        match is_it && last.is_none_or(|last| last >= stop) {
            true => Fault::HoldAfter(stop.saturating_sub(from)),
            false => Fault::None,
        }
    });
    let (mut images, asked) = (node.cri.images(), request(&registry.image("1")));
    tokio::spawn(async move { images.pull_image(asked).await });
    let there = async || length(blob) >= stop;
    until_true("the layer comes as far as it can", 60, there).await;
    assert_eq!(length(blob), stop);
}

/// The bytes of a blob that were asked for.
fn asked_of(registry: &FaultRegistry, blob: &[u8]) -> Vec<(usize, usize)> {
    let name = Digest::of(blob).to_string();
    let bytes = |asked: &Asked| {
        let (from, last) = asked.range().unwrap_or_default();
        (from, last.map_or(blob.len(), |last| last + 1))
    };
    let asked = registry.asked();
    let asked = asked.iter().filter(|asked| asked.target.ends_with(&name));
    asked.map(bytes).collect()
}

#[test]
#[ignore = "needs root"]
fn root_a_pull_goes_on_where_it_stopped_when_the_daemon_was_killed() {
    in_a_node(async |node| {
        let registry = FaultRegistry::start().await;
        let (small, large) = (layer("small", 1000), layer("large", LARGE));
        registry.push_image("1", &[small.clone(), large.clone()]);
        let name = registry.image("1");
        let [first, second] = STOPS;
        pull_up_to(node, &registry, &large.0, first).await;
        node.kill_daemon();
        node.start_daemon().await;
        assert_eq!(length(&large.0), first);
        pull_up_to(node, &registry, &large.0, second).await;
        assert_eq!(asked_of(&registry, &large.0)[0].0, first);
        node.daemon.terminate().await;
        node.start_daemon().await;
        registry.break_with(|_, _| Fault::None);
        node.cri.images().pull_image(request(&name)).await.unwrap();
        let mut asked = asked_of(&registry, &large.0);
        asked.sort_unstable();
        assert_eq!(asked.first().unwrap().0, second);
        let bytes: usize = asked.iter().map(|(from, to)| to - from).sum();
        assert_eq!(bytes, large.0.len() - second, "{asked:?}");
        assert_eq!(asked_of(&registry, &small.0), [], "a whole layer");
        for folder in ["partial", "pulls"] {
            let folder = Path::new("/var/lib/corten/images").join(folder);
            assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        }
        let image = Some(ImageSpec {
            image: name,
            ..Default::default()
        });
        let remove = RemoveImageRequest { image };
        node.cri.images().remove_image(remove).await.unwrap();
    });
}
