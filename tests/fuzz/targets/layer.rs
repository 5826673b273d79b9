//! Whatever a layer is: it unpacks or is refused, and nothing beside its directory changes.
#![no_main]

#[path = "../../../src/error.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod error;
#[path = "../../../src/id.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod id;
#[path = "../../../src/model/image_policy.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod image_policy;
#[path = "../../../src/trees.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod trees;
#[path = "../../../src/unpack/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the daemon uses all of it")]
mod unpack;

mod model {
    pub(crate) use crate::image_policy;
}

use id::Digest;
use image_policy::DeviceNodes;
use libfuzzer_sys::fuzz_target;
use std::fs;
use unpack::Expected;

fuzz_target!(|layer: &[u8]| {
    let room = std::env::temp_dir().join(format!("corten-fuzz-{}", std::process::id()));
    let tree = room.join("tree");
    let beside = room.join("beside");
    fs::create_dir_all(&tree).expect("a folder for the layer");
    fs::write(&beside, "as it was").expect("a file beside it");
    let expected = Expected {
        blob: None,
        diff_id: Digest::of(layer),
        limit: 4 << 20,
        devices: DeviceNodes::Allow,
    };
    let _ = unpack::unpack(layer, &tree, &expected);
    assert_eq!(fs::read(&beside).expect("the file is there"), b"as it was");
    assert_eq!(fs::read_dir(&room).expect("the folder is there").count(), 2);
    fs::remove_dir_all(&room).expect("all of it can be removed");
});
