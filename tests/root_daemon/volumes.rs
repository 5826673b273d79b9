//! What a mount may be used for (`Mount.mount_options`).

use crate::node::{Node, in_a_node};
use crate::pods::{self, gated, idle};
use corten_proto::runtime::v1::*;
use std::os::unix::fs::PermissionsExt;
use tonic::Code;

/// A directory of the node with a script in it.
fn with_script(node: &Node) -> std::path::PathBuf {
    let gate = node.gate("options");
    let script = gate.join("run");
    std::fs::write(&script, "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    gate
}

#[test]
#[ignore = "needs root"]
fn root_a_mounts_options_hold() {
    in_a_node(async |node| {
        let gate = with_script(node);
        let pod = node.run(pods::pod("pod")).await;
        let plain = node.launch(&pod, gated(idle("plain"), &gate)).await;
        assert_eq!(node.cri.ask(&plain, "/gate/run").await, "ran");
        let options = ["noexec", "nodev", "nosuid"].map(str::to_owned).to_vec();
        let mut container = gated(idle("c"), &gate);
        container.mounts[0].mount_options = options.clone();
        let id = node.launch(&pod, container).await;
        let shown = node.cri.ask(&id, "grep ' /gate ' /proc/mounts").await;
        for option in &options {
            assert!(shown.contains(option.as_str()), "{shown}");
        }
        let refused = node.cri.exec(&id, "/gate/run", 20).await.unwrap();
        assert_eq!(refused.exit_code, 126, "{refused:?}");
        let status = node.cri.status(&id).await.unwrap();
        assert_eq!(status.mounts[0].mount_options, options);
        let mut wrong = gated(idle("d"), &gate);
        wrong.mounts[0].mount_options = vec!["exec".to_owned()];
        let refused = node.cri.create(&pod, &wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let request = StatusRequest::default();
        let status = node.cri.runtime().status(request).await.unwrap();
        assert!(status.into_inner().features.unwrap().mount_options);
    });
}
