//! Whatever stands in a hosts.toml: it is refused with the file's name, or each of its hosts has its line.
#![no_main]

#[path = "../../../src/registry/hosts_toml.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod hosts_toml;
#[path = "../../../src/registry/place.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod place;

use libfuzzer_sys::fuzz_target;
use place::Place;
use std::path::{Path, PathBuf};

/// As the registry's, as far as a file's reader needs it.
#[derive(Debug)]
#[allow(dead_code, reason = "it is only made")]
enum Error {
    Config { path: PathBuf, reason: String },
}

fuzz_target!(|text: &str| {
    let Ok(mut file) = hosts_toml::parse(Path::new("hosts.toml"), text) else {
        return;
    };
    let lines = text.split('\n').count();
    for (url, _) in &file.hosts {
        assert!((1..=lines).contains(&file.lines[url]));
    }
    file.server_table.below(Path::new("/folder"));
});
