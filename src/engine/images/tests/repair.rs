//! What a check finds is fetched again, and nothing that a container runs on goes away meanwhile.

use super::*;

fn file(node: &Node, chain: &ChainId, name: &str) -> PathBuf {
    let layer = node.root.path().join("layers").join(chain.0.hex());
    layer.join("fs").join(name)
}

fn replaced(node: &Node) -> Vec<PathBuf> {
    let entries = fs::read_dir(node.root.path().join("layers")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().contains(".replaced-"))
        .collect()
}

async fn repair(images: &Arc<Images>) -> (usize, u64, u64) {
    let report = images.repair(&[], Arc::new(|_| {})).await.unwrap();
    (report.findings.len(), report.repaired, report.unrepaired)
}

#[tokio::test]
async fn one_broken_file_brings_its_layer_alone_anew() {
    let node = node();
    let layers = [layer("a", "one"), layer("b", "two")];
    let pushed = push(&node.registry, "app:1", &layers);
    push(
        &node.registry,
        "other:1",
        &[&layers[..], &[layer("c", "3")]].concat(),
    );
    pull(&node.images, "app:1").await.unwrap();
    pull(&node.images, "other:1").await.unwrap();
    let image = node.images.status("app:1").unwrap().unwrap();
    let path = file(&node, &image.record.layers[1], "b");
    fs::write(&path, "owt").unwrap();
    let report = node.images.check(&[]).await.unwrap();
    let [found] = &report.findings[..] else {
        panic!("{:?}", report.findings)
    };
    assert_eq!((found.fault, found.path.as_str()), (Fault::Changed, "b"));
    assert_eq!(
        (report.images, report.layers),
        (2, 3),
        "shared ones count once"
    );
    assert_eq!(repair(&node.images).await, (1, 2, 0));
    assert_eq!(fs::read_to_string(path).unwrap(), "two");
    assert_eq!(node.images.check(&[]).await.unwrap().findings, []);
    let asked = |layer: usize| node.registry.asked(&pushed.layers[layer]);
    assert_eq!((asked(0), asked(1)), (1, 2));
}

#[tokio::test]
async fn a_container_keeps_the_broken_tree_until_it_goes() {
    let node = node();
    let pushed = push(&node.registry, "app:1", &[layer("a", "one")]);
    pull(&node.images, "app:1").await.unwrap();
    let container = ContainerId::random();
    node.images.hold(&container, &pushed.id).unwrap();
    let image = node.images.status("app:1").unwrap().unwrap();
    let path = file(&node, &image.record.layers[0], "a");
    fs::write(&path, "eno").unwrap();
    assert_eq!(repair(&node.images).await, (1, 1, 0));
    node.images.reclaim().await.unwrap();
    let [old] = &replaced(&node)[..] else {
        panic!("no old tree")
    };
    assert_eq!(fs::read_to_string(old.join("fs/a")).unwrap(), "eno");
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    let again = open(&node.root, &node.registry, "boot");
    again.hold(&container, &pushed.id).unwrap();
    again.reclaim().await.unwrap();
    assert_eq!(replaced(&node).len(), 1, "after a restart");
    again.release(&container);
    again.reclaim().await.unwrap();
    assert!(replaced(&node).is_empty());
}

/// Holds the reading thread at its first finding until the asker has gone.
#[tokio::test]
async fn a_check_ends_with_who_asked_for_it() {
    let node = node();
    let layers = [layer("a", "one"), layer("b", "two"), layer("c", "three")];
    push(&node.registry, "app:1", &layers);
    pull(&node.images, "app:1").await.unwrap();
    let image = node.images.status("app:1").unwrap().unwrap();
    for (chain, name) in image.record.layers.iter().zip(["a", "b", "c"]) {
        fs::write(file(&node, chain, name), "").unwrap();
    }
    let (found, mut first) = tokio::sync::mpsc::unbounded_channel();
    let (gone, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let sink = Arc::new(move |finding: &Finding| {
        found.send(finding.path.clone()).unwrap();
        let _ = wait.lock().unwrap().recv();
    });
    let images = Arc::clone(&node.images);
    let check = tokio::spawn(async move { images.check_telling(&[], sink).await });
    assert_eq!(first.recv().await.unwrap(), "a");
    check.abort();
    assert!(check.await.unwrap_err().is_cancelled());
    drop(gone);
    // The thread ends, and with it the sink, without another word.
    assert_eq!(first.recv().await, None);
}

/// It has opened the files of the layers that it builds on.
#[tokio::test]
async fn a_pull_keeps_the_broken_tree_that_it_builds_on() {
    let node = node();
    push(&node.registry, "app:1", &[layer("a", "one")]);
    pull(&node.images, "app:1").await.unwrap();
    let image = node.images.status("app:1").unwrap().unwrap();
    fs::write(file(&node, &image.record.layers[0], "a"), "eno").unwrap();
    let built_on = node.images.pin(&image.record.layers);
    assert_eq!(repair(&node.images).await, (1, 1, 0));
    node.images.reclaim().await.unwrap();
    assert_eq!(replaced(&node).len(), 1);
    drop(built_on);
    node.images.reclaim().await.unwrap();
    assert!(replaced(&node).is_empty());
}

#[tokio::test]
async fn what_cannot_be_fetched_now_is_fetched_by_the_next_pull() {
    let node = node();
    let pushed = push(&node.registry, "app:1", &[layer("a", "one")]);
    pull(&node.images, "app:1").await.unwrap();
    let image = node.images.status("app:1").unwrap().unwrap();
    let path = file(&node, &image.record.layers[0], "a");
    fs::remove_file(&path).unwrap();
    node.registry.break_blob(&pushed.layers[0]);
    assert_eq!(repair(&node.images).await, (2, 0, 1));
    pull(&node.images, "app:1").await.unwrap_err();
    // A restart does not forget it.
    let again = open(&node.root, &node.registry, "boot");
    pull(&again, "app:1").await.unwrap_err();
    node.registry.mend_blob(&pushed.layers[0]);
    // Also where the layer has gone meanwhile.
    node.images.remove("app:1").await.unwrap();
    node.images.reclaim().await.unwrap();
    pull(&node.images, "app:1").await.unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "one");
    let asked = node.registry.asked(&pushed.layers[0]);
    pull(&node.images, "app:1").await.unwrap();
    assert_eq!(
        node.registry.asked(&pushed.layers[0]),
        asked,
        "once is enough"
    );
}

#[tokio::test]
async fn images_that_miss_the_same_layer_are_all_listed_again() {
    let node = node();
    let shared = layer("a", "one");
    push(&node.registry, "app:1", std::slice::from_ref(&shared));
    push(&node.registry, "other:1", &[shared, layer("b", "two")]);
    pull(&node.images, "app:1").await.unwrap();
    pull(&node.images, "other:1").await.unwrap();
    let image = node.images.status("app:1").unwrap().unwrap();
    node.images.layers.make_durable().unwrap();
    let path = file(&node, &image.record.layers[0], "");
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let next = open(&node.root, &node.registry, "next");
    assert!(next.list(None).unwrap().is_empty());
    assert_eq!(repair(&next).await, (2, 2, 0));
    assert_eq!(next.list(None).unwrap().len(), 2);
}

#[tokio::test]
async fn damaged_blobs_and_missing_layers_come_again() {
    let node = node();
    let pushed = push(&node.registry, "app:1", &[layer("a", "one")]);
    pull(&node.images, "app:1").await.unwrap();
    let blobs = node.root.path().join("images/blobs");
    fs::write(blobs.join(pushed.id.0.hex()), "").unwrap();
    assert_eq!(repair(&node.images).await, (1, 1, 0));
    let image = node.images.status("app:1").unwrap().unwrap();
    let path = file(&node, &image.record.layers[0], "a");
    fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    let next = open(&node.root, &node.registry, "boot");
    assert!(next.list(None).unwrap().is_empty());
    assert_eq!(repair(&next).await, (1, 1, 0));
    assert_eq!(next.list(None).unwrap().len(), 1);
}
