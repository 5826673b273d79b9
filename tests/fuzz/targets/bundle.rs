//! Whatever stands in a bundle's files: it is refused in words, or it means the same however it is written (order of
//! names, escapes, spaces, names that nobody knows), and the lists of mounts beside it can be written and read again.
#![no_main]

use corten_shim::api::{FailureKind, ImageVolume, RootfsMount};
use corten_shim::bundle;
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fuzz_target!(|text: &str| {
    written_again::<Vec<RootfsMount>>(text);
    written_again::<Vec<ImageVolume>>(text);
    let spec = match bundle::parse(text) {
        Ok(spec) => spec,
        Err(failure) => {
            assert_eq!(failure.kind, FailureKind::Invalid);
            assert!(!failure.chain.is_empty());
            return;
        }
    };
    assert!(!spec.process.args.is_empty());
    // Of what is passed over it may be more than another reader takes: very deep, or half a character.
    let Ok(plain) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let args: Vec<_> = spec.process.args.iter().map(|arg| &**arg).collect();
    assert_eq!(plain["process"]["args"], serde_json::json!(args));
    let again = with_a_name_that_nobody_knows(plain).to_string();
    let again = bundle::parse(&again).expect("the same, written in another way");
    assert_eq!(format!("{spec:?}"), format!("{again:?}"));
});

/// Not in maps of names that the user chooses: there each one counts.
fn with_a_name_that_nobody_knows(mut plain: Value) -> Value {
    for place in ["/process", "/root", "/linux", ""] {
        if let Some(Value::Object(fields)) = plain.pointer_mut(place) {
            fields.insert("x-unknown".to_owned(), serde_json::json!({"args": [{}]}));
        }
    }
    plain
}

fn written_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(list) = bundle::json::<T>("a list", text) {
        let text = serde_json::to_string(&list).expect("what was read can be written");
        let again = bundle::json::<T>("a list", &text).expect("and read again");
        assert_eq!(list, again);
    }
}
