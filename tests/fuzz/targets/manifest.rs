//! Whatever a registry sends as a manifest, an index or a config: it is refused in words, or what is chosen of it is in
//! it, and no user of a config wraps around to root.
#![no_main]

#[path = "../../../src/error.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod error;
#[path = "../../../src/id.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod id;
#[path = "../../../src/model/image.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod image;

use image::{ImageConfigFile, ImageUser, Manifest, Platform, chain_ids, choose};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Manifest::parse(bytes) {
        Ok(Manifest::Index(index)) => {
            if let Ok(chosen) = choose(&index, &Platform::host()) {
                assert!(index.contains(chosen));
            }
        }
        Ok(Manifest::Image(manifest)) => assert!(manifest.layers.len() <= 500),
        Err(error) => assert!(!error.chain().is_empty()),
    }
    let Ok(config) = serde_json::from_slice::<ImageConfigFile>(bytes) else {
        return;
    };
    assert_eq!(chain_ids(&config.rootfs.diff_ids).len(), config.rootfs.diff_ids.len());
    match config.config.user() {
        ImageUser::Uid(uid) => {
            assert!((0..=i64::from(i32::MAX)).contains(&uid));
            let written = config.config.user.split(':').next().unwrap_or_default();
            assert_eq!(written.parse(), Ok(uid));
        }
        ImageUser::Name(name) => assert!(!name.is_empty()),
        ImageUser::Unset => {}
    }
});
