//! Artifacts: nothing of them can be run, and containers see their files as a volume.

use crate::image;
use crate::image_volumes::{volume, with_volumes};
use crate::node::{Node, in_a_node};
use crate::pods::{self, idle};
use corten_proto::runtime::v1::*;
use tonic::Code;

const NAME: &str = "localhost/model:test";

async fn import(node: &Node) {
    let layout = node.scratch.join("artifact");
    let files = [("model/weights.bin", &b"weights"[..]), ("LICENSE", b"free")];
    image::write_artifact_layout(&layout, &files);
    node.cri.import(&layout, NAME).await;
    std::fs::remove_dir_all(layout).unwrap();
}

async fn remove(node: &Node) {
    let image = Some(ImageSpec {
        image: NAME.to_owned(),
        ..Default::default()
    });
    let request = RemoveImageRequest { image };
    node.cri.images().remove_image(request).await.unwrap();
}

#[test]
#[ignore = "needs root"]
fn root_a_container_sees_the_files_of_an_artifact() {
    in_a_node(async |node| {
        import(node).await;
        let pod = node.run(pods::pod("pod")).await;
        let mounts = vec![
            volume("/all", NAME, ""),
            volume("/model", NAME, "model"),
            volume("/licence", NAME, "LICENSE"),
        ];
        let id = with_volumes(node, &pod, "c", mounts).await.unwrap();
        let said = node.cri.ask(
            &id,
            "cd /all; find . | sort; cat model/weights.bin LICENSE /model/weights.bin /licence
             stat -c ' %a %u %Y' LICENSE; stat -c '%a %u' model; touch x 2>&1 || true",
        );
        let expected = ".\n./LICENSE\n./model\n./model/weights.bin\n\
             weightsfreeweightsfree 644 0 0\n755 0\ntouch: x: Read-only file system";
        assert_eq!(said.await.trim(), expected);
        remove(node).await;
    });
}

#[test]
#[ignore = "needs root"]
fn root_no_container_is_made_of_an_artifact() {
    in_a_node(async |node| {
        import(node).await;
        let pod = node.run(pods::pod("pod")).await;
        let mut container = idle("c");
        container.image = Some(ImageSpec {
            image: NAME.to_owned(),
            ..Default::default()
        });
        let refused = node.cri.create(&pod, &container).await.unwrap_err();
        let said = refused.message();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{said}");
        for words in [NAME, "is an artifact", image::ARTIFACT_TYPE, "image volume"] {
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(node.cri.containers().await, []);
        remove(node).await;
    });
}
