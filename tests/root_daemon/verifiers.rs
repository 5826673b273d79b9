//! Verifiers in their directory: what they refuse, no container is made of.

use crate::node::in_a_node;
use crate::pods::{self, idle};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tonic::Code;

/// The default of `verifiers.bin_dir`; the node's /opt is its own.
const BIN_DIR: &str = "/opt/containerd/image-verifier/bin";

fn script(name: &str, text: &str) {
    let path = Path::new(BIN_DIR).join(name);
    fs::create_dir_all(BIN_DIR).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn root_a_container_of_an_image_that_a_verifier_refuses_is_not_made() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let asked = node.scratch.join("asked");
        script("a", &format!("echo \"$*\" >{}", asked.display()));
        node.cri.create(&pod, &idle("good")).await.unwrap();
        let told = fs::read_to_string(&asked).unwrap();
        assert!(
            told.starts_with("-name localhost/busybox:test -digest sha256:"),
            "{told}"
        );
        script("b", "echo nobody we know has signed it; exit 1");
        let refused = node.cri.create(&pod, &idle("bad")).await.unwrap_err();
        let said = refused.message();
        assert_eq!(refused.code(), Code::Unknown, "{said}");
        assert!(said.starts_with("SignatureValidationFailed: "), "{said}");
        assert!(said.contains("nobody we know has signed it"), "{said}");
        fs::remove_dir_all(BIN_DIR).unwrap();
        fs::remove_file(asked).unwrap();
        node.cri.create(&pod, &idle("bad")).await.unwrap();
    });
}
