//! Whatever a registry sends as a config: it is refused, or every layer has its chain, no user wraps around to root, and
//! what was read can be written and read again.
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

use image::{ImageConfigFile, ImageUser, chain_ids};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
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
    let text = serde_json::to_vec(&config).expect("what was read can be written");
    let _: ImageConfigFile = serde_json::from_slice(&text).expect("and read again");
});
