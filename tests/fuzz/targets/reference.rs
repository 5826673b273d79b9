//! Whatever a kubelet or a person names: it is refused, or it is a reference that is written as it is read, stays below
//! its registry in a URL, and fits into file names and headers.
#![no_main]

#[path = "../../../src/error.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod error;
#[path = "../../../src/id.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod id;

use id::{ImageRef, short_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((name, rest)) = short_name(text) {
        assert_eq!(format!("{name}{rest}"), text);
    }
    let Ok(image) = text.parse::<ImageRef>() else {
        return;
    };
    let full = image.to_string();
    assert_eq!(full.parse::<ImageRef>().expect("what is written can be read"), image);
    assert!(short_name(&full).is_none());
    assert!(image.tag().is_some() || image.digest().is_some());
    assert!(full.len() <= 1024 && full.bytes().all(|byte| byte.is_ascii_graphic()));
    let parts = image.repository().split('/');
    assert!(parts.clone().all(|part| !part.is_empty() && part != "." && part != ".."));
    assert!(!image.registry().contains(['/', '@', '?', '#']));
});
