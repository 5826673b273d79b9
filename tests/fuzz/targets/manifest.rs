//! Whatever a registry sends as a manifest or an index: it is refused in words, or what is chosen of it is in it, and an
//! artifact's files have names that stay beneath the root, each of its own.
#![no_main]

#[path = "../../../src/error.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod error;
#[path = "../../../src/id.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod id;
#[path = "../../../src/model/artifact.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod artifact;
#[path = "../../../src/model/image.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod image;

use artifact::Form;
use image::{ImageManifest, Manifest, Platform, choose};
use libfuzzer_sys::fuzz_target;
use std::collections::HashSet;

fuzz_target!(|bytes: &[u8]| {
    match Manifest::parse(bytes) {
        Ok(Manifest::Index(index)) => {
            if let Ok(chosen) = choose(&index, &Platform::host()) {
                assert!(index.contains(chosen));
            }
        }
        Ok(Manifest::Image(manifest)) => image_or_artifact(&manifest),
        Err(error) => assert!(!error.chain().is_empty()),
    }
});

fn image_or_artifact(manifest: &ImageManifest) {
    assert!(manifest.layers.len() <= 500);
    let Ok(parts) = artifact::parts(manifest) else {
        return;
    };
    let mut names = HashSet::new();
    for part in parts {
        if let Form::File(name) = part.form {
            let bad = |part: &str| part.is_empty() || part == ".." || part.starts_with(".wh.");
            assert!(!name.split('/').any(bad), "{name:?}");
            assert!(names.insert(name));
        }
    }
}
