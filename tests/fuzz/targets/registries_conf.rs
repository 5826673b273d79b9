//! Whatever stands in a registries.conf (up to a zero byte) and is asked of it (after it): it is refused, or rules fit
//! names that begin with their prefixes.
#![no_main]

#[path = "../../../src/registry/place.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod place;
#[path = "../../../src/registry/registries_conf.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod registries_conf;

use libfuzzer_sys::fuzz_target;
use place::Place;
use registries_conf::RegistriesConf;
use std::path::{Path, PathBuf};

/// As the registry's, as far as a file's reader needs it.
#[derive(Debug)]
#[allow(dead_code, reason = "it is only made")]
enum Error {
    Config { path: PathBuf, reason: String },
    File { path: PathBuf, source: std::io::Error },
    ShortName { name: String, place: Place },
}

fuzz_target!(|input: &str| {
    let (text, name) = input.split_once('\0').unwrap_or((input, "reg.test/app:1"));
    let mut conf = RegistriesConf::default();
    if conf.take(Path::new("registries.conf"), text).is_err() {
        return;
    }
    if let Some(rule) = conf.rule(name) {
        assert!(!rule.prefix.is_empty());
        assert!(rule.prefix.starts_with('*') || name.starts_with(&rule.prefix));
        for location in rule.mirrors.iter().chain([&rule.primary]) {
            assert!(location.place.line >= 1);
            let _ = rule.rewritten(name, location);
        }
    }
    let _ = conf.full_names(name);
});
