//! Whatever a registry asks for in WWW-Authenticate: it becomes challenges, whose words and values are in the header.
#![no_main]

#[path = "../../../src/registry/challenge.rs"]
mod challenge;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| {
    for challenge in challenge::parse(header) {
        assert!(!challenge.scheme.is_empty() && challenge.scheme.is_ascii());
        for (name, value) in &challenge.parameters {
            assert!(!name.is_empty() && name.bytes().all(|byte| !byte.is_ascii_uppercase()));
            assert!(value.len() <= header.len());
        }
    }
});
