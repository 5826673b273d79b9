//! The owner's rules at a pull: how much a layer may unpack to, device nodes, verifiers. What they
//! refuse is named, and leaves nothing; the same image is good where the rules are others.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use corten::{
    engine::ImagePolicy,
    error::{Kind, Sentinel},
    id::Digest,
    model::image_policy::{DeviceNodes, UnpackPolicy},
    verifier::Programs,
};
use serde_json::json;

use super::{
    fault_registry::{Asked, Fault, FaultRegistry},
    forge::{Layer, Packing, device, fifo, file},
    node::{Node, layer_of},
};

/// A node with these rules for unpacking.
fn strict(unpacking: UnpackPolicy) -> Node {
    let node = Node::new();
    node.images.set_policy(ImagePolicy {
        unpacking,
        ..ImagePolicy::default()
    });
    node
}

fn push(registry: &FaultRegistry, tag: &str, layer: &Layer) -> Digest {
    let blob = layer.blob();
    let digest = Digest::of(&blob);
    registry.push_image(tag, &[(blob, layer.diff_id())]);
    digest
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_unpack_to_too_much() {
    let registry = FaultRegistry::start().await;
    let small = UnpackPolicy {
        ratio: 10,
        free: 1 << 20,
        ..UnpackPolicy::default()
    };
    let zeros = vec![0; 2 << 20];
    // Headers count like contents: each of these is of a size that is read.
    let padding = vec![b'x'; 1000 << 10];
    let headers = (0..3).map(|n| file(&n.to_string(), b"").pax("comment", &padding));
    let headers: Vec<_> = headers.collect();
    for (items, kind) in [
        (vec![file("zeros", &zeros)], "contents"),
        (headers, "headers"),
    ] {
        for packing in [Packing::Gzip, Packing::Zstd] {
            let layer = Layer::of(&items).packed(packing);
            let digest = push(&registry, "bomb", &layer);
            let name = registry.image("bomb");
            let (refused, text) = strict(small).refusal(&name).await;
            assert_eq!(
                refused,
                Kind::ResourceExhausted,
                "{kind} {packing:?}: {text}"
            );
            for words in [
                &*name,
                digest.as_str(),
                "unpacks to more than 1048576 bytes",
            ] {
                assert!(text.contains(words), "{kind} {packing:?}: {text}");
            }
        }
    }
    // What is large as it travels may be large here.
    let plain = Layer::of(&[file("zeros", &zeros)]).packed(Packing::Plain);
    push(&registry, "large", &plain);
    strict(small).pull(&registry.image("large")).await.unwrap();
    strict(UnpackPolicy::default())
        .pull(&registry.image("bomb"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn root_device_nodes_where_nobody_wants_them() {
    let registry = FaultRegistry::start().await;
    let refusing = UnpackPolicy {
        devices: DeviceNodes::Refuse,
        ..UnpackPolicy::default()
    };
    for kind in [b'3', b'4'] {
        let layer = Layer::of(&[file("a", b"a"), device(kind, "dev/thing", 8, 0)]);
        let digest = push(&registry, "devices", &layer);
        let name = registry.image("devices");
        let (refused, text) = strict(refusing).refusal(&name).await;
        assert_eq!(refused, Kind::PermissionDenied, "{text}");
        for words in [&*name, digest.as_str(), "\"dev/thing\" is a device node"] {
            assert!(text.contains(words), "{text}");
        }
        Node::new().pull(&name).await.unwrap();
    }
    let layer = Layer::of(&[fifo("pipe"), file(".wh.gone", b"")]);
    push(&registry, "pipe", &layer);
    strict(refusing)
        .pull(&registry.image("pipe"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_changes_between_two_requests() {
    let registry = FaultRegistry::start().await;
    registry.push_image("other", &[layer_of("b", b"b")]);
    let child = registry.push_image("one", &[layer_of("a", b"a")]);
    let entry = json!({"digest": child, "size": 1});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    registry.push_manifest("many", &index);
    let evil = json!({"schemaVersion": 2, "config": entry, "layers": []}).to_string();
    let (target, body) = (child.to_string(), evil.into_bytes());
    registry.break_with(move |asked, _| match asked.target.contains(&target) {
        true => Fault::Body(body.clone()),
        false => Fault::None,
    });
    let node = Node::new();
    let name = registry.image("many");
    let (_, text) = node.refusal(&name).await;
    assert!(
        text.contains(&name) && text.contains(child.as_str()),
        "{text}"
    );
    registry.break_with(|_, _| Fault::None);
    node.pull(&name).await.unwrap();
}

/// Another process writes it: what is open for writing anywhere cannot be executed.
fn script(directory: &Path, name: &str, text: &str) {
    let draft = directory.with_extension("draft");
    fs::create_dir_all(directory).unwrap();
    fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
    let mut install = Command::new("install");
    install
        .args(["-m", "755"])
        .arg(draft)
        .arg(directory.join(name));
    assert!(install.status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_verifiers_refuse() {
    let registry = FaultRegistry::start().await;
    let digest = registry.push_image("1", &[layer_of("a", b"a")]);
    let (node, name) = (Node::new(), registry.image("1"));
    let bin = node.root.path().join("bin");
    node.images.set_policy(ImagePolicy {
        verifier: Some(Arc::new(Programs {
            directory: bin.clone(),
            most: 10,
            time_limit: Duration::from_secs(30),
        })),
        ..ImagePolicy::default()
    });
    script(&bin, "agrees", "exit 0");
    script(&bin, "refuses", "echo \"$4 is not ours\"; exit 1");
    registry.break_with(|_, _| Fault::None);
    let (kind, text) = node.refusal(&name).await;
    assert_eq!(kind, Kind::Sentinel(Sentinel::SignatureValidationFailed));
    assert!(text.contains(&format!("{digest} is not ours")), "{text}");
    assert!(text.contains(&name), "{text}");
    assert!(!registry.asked().iter().any(Asked::is_blob));
    script(&bin, "refuses", "exit 0");
    node.pull(&name).await.unwrap();
}
