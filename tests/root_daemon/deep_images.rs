//! Images of many layers: as many as docker builds, and as many as overlayfs takes.

use crate::image;
use crate::image_volumes::{volume, with_volumes};
use crate::node::in_a_node;
use crate::pods::{self, idle};
use corten_proto::runtime::v1::*;

fn deep() -> ImageSpec {
    ImageSpec {
        image: image::DEEP.to_owned(),
        ..Default::default()
    }
}

#[test]
#[ignore = "needs root"]
fn root_a_container_runs_on_as_many_layers_as_there_can_be() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        for layers in [127, 500] {
            let layout = node.scratch.join("deep");
            image::write_deep_layout(&layout, layers);
            node.cri.import(&layout, image::DEEP).await;
            std::fs::remove_dir_all(layout).unwrap();
            let mut container = idle(&format!("on-{layers}"));
            container.image = Some(deep());
            let id = node.launch(&pod, container).await;
            let said = node
                .cri
                .ask(&id, "touch /many/new /bin/new; ls /many | wc -l");
            // Of each pair the lower one is hidden.
            let expected = (layers / 2 + 1).to_string();
            assert_eq!(said.await.trim(), expected, "{layers} layers");
            let mounts = vec![volume("/seen", image::DEEP, "many")];
            let name = format!("sees-{layers}");
            let id = with_volumes(node, &pod, &name, mounts).await.unwrap();
            let said = node.cri.ask(&id, "ls /seen | wc -l").await;
            assert_eq!(said.trim(), (layers / 2).to_string());
        }
        let image = Some(deep());
        let request = RemoveImageRequest { image };
        node.cri.images().remove_image(request).await.unwrap();
    });
}
