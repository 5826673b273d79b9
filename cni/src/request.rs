//! What a plugin is given on stdin: its configuration, with what the specification has the runtime
//! add and take away (section 3, "Deriving request configuration").
//!
//! Invariant: every key that is not the protocol's own passes with its text unchanged.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::args::Capabilities;
use crate::conf::{NetworkList, Object, Plugin, object_text};

/// What one call adds to a plugin's configuration.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extra<'a> {
    /// JSON text of the previous result.
    pub(crate) prev_result: Option<&'a str>,
    /// What the runtime offers; only what the plugin declares is passed on.
    pub(crate) capabilities: Option<&'a Capabilities>,
    /// The attachments that GC must keep.
    pub(crate) valid_attachments: Option<&'a Value>,
}

/// The text for the plugin's stdin.
pub(crate) fn build(list: &NetworkList, plugin: &Plugin, extra: Extra<'_>) -> String {
    let mut keys = plugin.keys.clone();
    keys.retain(|key, _| !key.starts_with("cni.dev/"));
    keys.remove("capabilities");
    keys.remove("prevResult");
    insert(&mut keys, "name", &raw(&list.name().into()));
    insert(
        &mut keys,
        "cniVersion",
        &raw(&list.version().as_str().into()),
    );
    if let Some(offered) = extra.capabilities {
        add_runtime_config(&mut keys, plugin, offered);
    }
    if let Some(valid) = extra.valid_attachments {
        insert(&mut keys, "cni.dev/valid-attachments", &raw(valid));
        // Plugins built before the specification's name was settled read this one.
        insert(&mut keys, "cni.dev/attachments", &raw(valid));
    }
    with_prev_result(&keys, extra.prev_result)
}

fn add_runtime_config(keys: &mut Object, plugin: &Plugin, offered: &Capabilities) {
    let wanted: BTreeMap<_, _> = offered
        .iter()
        .filter(|(name, _)| plugin.capabilities.contains(*name))
        .collect();
    if let Ok(value) = to_raw_value(&wanted)
        && !wanted.is_empty()
    {
        keys.insert("runtimeConfig".to_owned(), value);
    }
}

/// The previous result is text already: it is not parsed again for every plugin of a chain.
fn with_prev_result(keys: &Object, prev_result: Option<&str>) -> String {
    let mut text = object_text(keys);
    if let Some(prev) = prev_result {
        text.pop();
        text.push_str(",\"prevResult\":");
        text.push_str(prev);
        text.push('}');
    }
    text
}

fn insert(keys: &mut Object, key: &str, value: &RawValue) {
    keys.insert(key.to_owned(), value.to_owned());
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("a JSON value in memory has only string keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(plugin: &str) -> NetworkList {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"net","plugins":[{plugin}]}}"#);
        NetworkList::from_bytes(text.as_bytes()).unwrap()
    }

    fn request(list: &NetworkList, extra: Extra<'_>) -> (String, Value) {
        let text = build(list, &list.plugins()[0], extra);
        let value = serde_json::from_str(&text).unwrap();
        (text, value)
    }

    #[test]
    fn unknown_keys_keep_their_text() {
        let list = list(
            r#"{"type":"x","big":123456789012345678901234567890,"f":1.10,"o":{"b":1, "a":[ ]}}"#,
        );
        let (text, _) = request(&list, Extra::default());
        for part in [
            "\"big\":123456789012345678901234567890",
            "\"f\":1.10",
            r#""o":{"b":1, "a":[ ]}"#,
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn name_and_version_are_the_lists() {
        let list = list(r#"{"type":"x","name":"other","cniVersion":"0.3.1"}"#);
        let (_, value) = request(&list, Extra::default());
        assert_eq!(
            value,
            json!({"type": "x", "name": "net", "cniVersion": "1.0.0"})
        );
    }

    #[test]
    fn only_declared_capabilities_reach_the_plugin() {
        let list = list(
            r#"{"type":"portmap","capabilities":{"portMappings":true,"bandwidth":false,"mac":true}}"#,
        );
        let offered = Capabilities::from([
            ("portMappings".to_owned(), json!([{"hostPort": 8080}])),
            ("bandwidth".to_owned(), json!({"ingressRate": 1})),
            (
                "io.kubernetes.cri.pod-annotations".to_owned(),
                json!({"a": "b"}),
            ),
        ]);
        let (_, value) = request(
            &list,
            Extra {
                capabilities: Some(&offered),
                ..Extra::default()
            },
        );
        assert_eq!(
            value["runtimeConfig"],
            json!({"portMappings": [{"hostPort": 8080}]})
        );
        assert_eq!(value.get("capabilities"), None);
    }

    #[test]
    fn without_a_declared_capability_there_is_no_runtime_config() {
        let list = list(r#"{"type":"bridge"}"#);
        let offered = Capabilities::from([("mac".to_owned(), json!("02:00:00:00:00:01"))]);
        let (_, value) = request(
            &list,
            Extra {
                capabilities: Some(&offered),
                ..Extra::default()
            },
        );
        assert_eq!(value.get("runtimeConfig"), None);
    }

    #[test]
    fn reserved_keys_of_a_file_do_not_pass() {
        let list = list(r#"{"type":"x","prevResult":{"ips":[]},"cni.dev/attachments":[1]}"#);
        let (_, value) = request(&list, Extra::default());
        assert_eq!(
            value,
            json!({"type": "x", "name": "net", "cniVersion": "1.0.0"})
        );
    }

    #[test]
    fn the_previous_result_and_gc_attachments_are_added() {
        let list = list(r#"{"type":"x"}"#);
        let valid = json!([{"containerID": "a", "ifname": "eth0"}]);
        let extra = Extra {
            prev_result: Some(r#"{"ips":[]}"#),
            valid_attachments: Some(&valid),
            ..Extra::default()
        };
        let (_, value) = request(&list, extra);
        assert_eq!(value["prevResult"], json!({"ips": []}));
        assert_eq!(value["cni.dev/valid-attachments"], valid);
    }
}
