//! Images that containers see as volumes (KEP-4639): read-only, with a path inside them, and for as
//! long as a container needs them.

use crate::image;
use crate::node::{Node, in_a_node};
use crate::pods::{self, Pod, idle};
use corten_proto::runtime::v1::*;
use tonic::{Code, Status};

/// Brings the image with data to the node; its id.
async fn import(node: &Node) -> String {
    let layout = node.scratch.join("data-image");
    image::write_data_layout(&layout);
    node.cri.import(&layout, image::DATA).await;
    std::fs::remove_dir_all(layout).unwrap();
    let request = ImageStatusRequest {
        image: Some(named(image::DATA)),
        ..Default::default()
    };
    let answer = node.cri.images().image_status(request).await.unwrap();
    answer.into_inner().image.unwrap().id
}

async fn remove_image(node: &Node) {
    let request = RemoveImageRequest {
        image: Some(named(image::DATA)),
    };
    node.cri.images().remove_image(request).await.unwrap();
}

fn named(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    }
}

/// As the kubelet sends it.
pub fn volume(at: &str, image: &str, sub_path: &str) -> Mount {
    Mount {
        readonly: true,
        container_path: at.to_owned(),
        image: Some(ImageSpec {
            user_specified_image: "data".to_owned(),
            ..named(image)
        }),
        image_sub_path: sub_path.to_owned(),
        ..Default::default()
    }
}

pub async fn with_volumes(
    node: &Node,
    pod: &Pod,
    name: &str,
    mounts: Vec<Mount>,
) -> Result<String, Status> {
    let mut container = idle(name);
    container.mounts = mounts;
    let id = node.cri.create(pod, &container).await?;
    node.cri.start(&id).await?;
    Ok(id)
}

fn mounts_of_the_node() -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().count()
}

#[test]
#[ignore = "needs root"]
fn root_an_image_is_seen_and_not_written() {
    in_a_node(async |node| {
        let image = import(node).await;
        let pod = node.run(pods::pod("pod")).await;
        let before = mounts_of_the_node();
        let mounts = vec![volume("/vol", image::DATA, "")];
        let id = with_volumes(node, &pod, "c", mounts).await.unwrap();
        assert_eq!(mounts_of_the_node(), before, "the node has no mount of it");
        let said = node
            .cri
            .ask(&id, "cat /vol/data/a; echo; cat /vol/data/b; /vol/data/run");
        assert_eq!(said.await, "new\nbelowran", "layers joined, and not noexec");
        let said = node
            .cri
            .ask(&id, "touch /vol/data/a 2>&1 || rm /vol/data/b 2>&1 || true");
        let said = said.await;
        assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
        let status = node.cri.status(&id).await.unwrap();
        let told = &status.mounts[0];
        let spec = told.image.as_ref().unwrap();
        assert!(told.readonly);
        assert_eq!(
            (spec.image.as_str(), spec.image_ref.as_str()),
            (image::DATA, image.as_str())
        );
        assert_eq!(spec.user_specified_image, "data");
        remove_image(node).await;
    });
}

#[test]
#[ignore = "needs root"]
fn root_a_path_of_an_image_is_found_inside_it() {
    in_a_node(async |node| {
        import(node).await;
        let pod = node.run(pods::pod("pod")).await;
        let mounts = vec![
            volume("/plain", image::DATA, "data"),
            volume("/link", image::DATA, "inside"),
            volume("/out", image::DATA, "out"),
            volume("/file", image::DATA, "data/a"),
        ];
        let id = with_volumes(node, &pod, "c", mounts).await.unwrap();
        let said = node.cri.ask(
            &id,
            "cat /plain/a /link/a /file; echo; cat /out/hostname; ls /out",
        );
        assert_eq!(said.await, "newnewnew\nof the imagehostname");
        remove_image(node).await;
    });
}

#[test]
#[ignore = "needs root"]
fn root_what_cannot_be_seen_of_an_image_is_told_in_the_kubelets_word() {
    in_a_node(async |node| {
        import(node).await;
        let pod = node.run(pods::pod("pod")).await;
        for (image, sub_path) in [
            ("localhost/absent:1", ""),
            (image::DATA, "absent"),
            (image::DATA, "data/a/b"),
            (image::DATA, "pipe"),
        ] {
            let mounts = vec![volume("/vol", image, sub_path)];
            let refused = with_volumes(node, &pod, "c", mounts).await.unwrap_err();
            let said = refused.message();
            assert_eq!(refused.code(), Code::Unknown, "{said}");
            assert!(said.starts_with("ImageVolumeMountFailed"), "{said}");
            let about = if sub_path.is_empty() { image } else { sub_path };
            assert!(said.contains(about), "{said}");
        }
        assert_eq!(node.cri.containers().await, []);
        remove_image(node).await;
    });
}

#[test]
#[ignore = "needs root"]
fn root_an_image_stays_while_a_container_sees_it() {
    in_a_node(async |node| {
        import(node).await;
        let pod = node.run(pods::pod("pod")).await;
        let mounts = vec![volume("/vol", image::DATA, "data")];
        let id = with_volumes(node, &pod, "c", mounts).await.unwrap();
        remove_image(node).await;
        node.kill_daemon();
        node.start_daemon().await;
        // Dropped from memory, so that what is read is read from the disk.
        std::fs::write("/proc/sys/vm/drop_caches", "3").ok();
        assert_eq!(node.cri.ask(&id, "cat /vol/a /vol/b").await, "newbelow");
        let mounts = vec![volume("/vol", image::DATA, "")];
        let refused = with_volumes(node, &pod, "d", mounts).await.unwrap_err();
        assert!(refused.message().starts_with("ImageVolumeMountFailed"));
    });
}
