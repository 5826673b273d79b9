//! What the configuration says of downloads, while it changes.

use std::{fs, time::Duration};

use super::{
    fault_registry::{Fault, FaultRegistry},
    node::{Node, layer_of, noise},
};

#[tokio::test(flavor = "multi_thread")]
async fn no_more_layers_come_at_once_than_the_node_wants() {
    let registry = FaultRegistry::start().await;
    let numbered = |number: u8| {
        let name = number.to_string();
        layer_of(&name, &[noise(1000), vec![number]].concat())
    };
    let layers: Vec<_> = (0..6).map(numbered).collect();
    registry.push_image("1", &layers);
    let name = registry.image("1");
    // The layers stand still: no more of them are asked for than may come at once.
    registry.break_with(|asked, number| match asked.is_blob() && number > 1 {
        true => Fault::HoldAfter(10),
        false => Fault::None,
    });
    let node = Node::with_downloads(2);
    let pull = node.pull(&name);
    let blobs = || registry.asked().iter().filter(|it| it.is_blob()).count() - 1;
    let wait = async {
        while registry.asked().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A third would have been asked for with the others.
        tokio::time::sleep(Duration::from_millis(200)).await;
        blobs()
    };
    let together = tokio::select! {
        _ = pull => panic!("the registry stands still"),
        together = wait => together,
    };
    assert_eq!(together, 2);
    registry.break_with(|_, _| Fault::None);
    node.pull(&name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_toml_that_changes_counts_for_the_next_pull() {
    let (first, second) = (FaultRegistry::start().await, FaultRegistry::start().await);
    for (registry, tag) in [(&first, "1"), (&second, "2")] {
        registry.push_image(tag, &[layer_of("file", tag.as_bytes())]);
    }
    let node = Node::new();
    let server = |registry: &FaultRegistry| format!("server = \"http://{}\"\n", registry.address);
    node.hosts("reg.test", &server(&first));
    node.pull("reg.test/app:1").await.unwrap();
    node.hosts("reg.test", &server(&second));
    node.pull("reg.test/app:2").await.unwrap();
    let folder = node.hosts("reg.test", "server = 7\n");
    let error = node.pull("reg.test/app:2").await.unwrap_err().chain();
    assert!(error.contains("hosts.toml"), "{error}");
    fs::remove_dir_all(folder).unwrap();
}
