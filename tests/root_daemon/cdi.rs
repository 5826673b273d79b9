//! Devices of the Container Device Interface, as a vendor describes them in the node's `/etc/cdi`.

use crate::node::in_a_node;
use crate::pods::{self, idle};
use corten_proto::runtime::v1::CdiDevice;
use serde_json::json;
use std::fs;
use std::path::Path;
use tonic::Code;

/// The default of `cdi.spec_dirs`; the node's /etc is its own.
const DIR: &str = "/etc/cdi";

/// Describes a device of a kind that no container may use by itself.
fn describe(library: &Path) {
    let spec = json!({
        "cdiVersion": "0.6.0",
        "kind": "vendor.com/device",
        "containerEdits": { "env": ["VENDOR=any"] },
        "devices": [{ "name": "0", "containerEdits": {
            "env": ["DEVICE=0"],
            "deviceNodes": [{ "path": "/dev/vendor0", "hostPath": "/dev/fuse" }],
            "mounts": [{
                "hostPath": library.to_str().unwrap(),
                "containerPath": "/vendor/lib",
                "options": ["ro", "nosuid", "nodev", "bind"],
            }],
        }}],
    });
    fs::create_dir_all(DIR).unwrap();
    fs::write(Path::new(DIR).join("vendor.json"), spec.to_string()).unwrap();
}

/// The device can be opened: its node is there and its numbers are allowed.
const OPEN: &str = "exec 3<>/dev/vendor0 && echo $VENDOR $DEVICE $(cat /vendor/lib/so)";

#[test]
#[ignore = "needs root"]
fn root_a_vendors_device_comes_by_field_and_by_annotation() {
    in_a_node(async |node| {
        let library = node.gate("library");
        fs::write(library.join("so"), "code").unwrap();
        describe(&library);
        let pod = node.run(pods::pod("pod")).await;
        let mut field = idle("field");
        let name = "vendor.com/device=0".to_owned();
        field.cdi_devices = vec![CdiDevice { name: name.clone() }];
        let mut annotated = idle("annotated");
        annotated
            .annotations
            .insert("cdi.k8s.io/plugin".to_owned(), name);
        for container in [field, annotated] {
            let id = node.launch(&pod, container).await;
            assert_eq!(node.cri.ask(&id, OPEN).await, "any 0 code");
            let written = node.cri.exec(&id, "touch /vendor/lib/x", 20).await.unwrap();
            assert_ne!(written.exit_code, 0, "{written:?}");
        }
        let mut absent = idle("absent");
        let name = "vendor.com/device=9".to_owned();
        absent.cdi_devices = vec![CdiDevice { name }];
        let refused = node.cri.create(&pod, &absent).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let told = refused.message();
        assert!(told.contains("/etc/cdi/vendor.json has 0"), "{told}");
        fs::remove_dir_all(DIR).unwrap();
    });
}
