use super::*;

const CHAIN: &str = r#"{
    "cniVersion": "1.0.0", "name": "pods", "disableCheck": "True", "disableGC": true,
    "plugins": [
        {"type": "bridge", "ipam": {"type": "host-local"}},
        {"type": "portmap", "capabilities": {"portMappings": true, "mac": false}}
    ]
}"#;

fn fault(text: &str) -> String {
    match NetworkList::parse(text.as_bytes(), "10-x.conflist", Vec::new()) {
        Err(Error::ConfInvalid { origin, reason }) => {
            assert_eq!(origin, "10-x.conflist");
            reason
        }
        other => panic!("{text} gives {other:?}"),
    }
}

#[test]
fn a_list_is_read() {
    let list = NetworkList::from_bytes(CHAIN.as_bytes()).unwrap();
    assert_eq!(list.name(), "pods");
    assert_eq!(list.version(), Version::V1_0_0);
    assert_eq!(
        list.plugin_types().collect::<Vec<_>>(),
        ["bridge", "portmap"]
    );
    assert!(list.disable_check() && list.disable_gc());
    assert!(list.has_capability("portMappings") && !list.has_capability("mac"));
    assert_eq!(list.bytes(), CHAIN.as_bytes());
}

#[test]
fn a_single_plugin_becomes_a_list_of_one() {
    let text = r#"{"cniVersion":"0.3.1","name":"n","type":"macvlan","master":"eth0"}"#;
    let list = NetworkList::from_bytes(text.as_bytes()).unwrap();
    assert_eq!(list.plugin_types().collect::<Vec<_>>(), ["macvlan"]);
    assert_eq!(list.version(), Version::V0_3_1);
    let again = NetworkList::from_bytes(list.bytes()).unwrap();
    assert_eq!(again, list);
    assert_eq!(again.plugins()[0].keys["master"].get(), "\"eth0\"");
}

#[test]
fn plugins_from_beside_are_kept_in_the_bytes() {
    let more = vec![Plugin::parse(br#"{"type":"tuning","n": 1.50}"#).unwrap()];
    let list = NetworkList::parse(CHAIN.as_bytes(), "", more).unwrap();
    let again = NetworkList::from_bytes(list.bytes()).unwrap();
    assert_eq!(
        again.plugin_types().collect::<Vec<_>>(),
        ["bridge", "portmap", "tuning"]
    );
    assert_eq!(again.plugins()[2].keys["n"].get(), "1.50");
    assert_eq!(again.version(), list.version());
    assert!(again.disable_check() && again.disable_gc());
    assert!(!Head::parse(list.bytes()).unwrap().looks_beside);
}

#[test]
fn the_highest_known_version_is_taken() {
    let version_of = |versions: &str| {
        let text = format!(r#"{{{versions},"name":"n","type":"x"}}"#);
        NetworkList::from_bytes(text.as_bytes()).map(|list| list.version())
    };
    let both = version_of(r#""cniVersion":"0.4.0","cniVersions":["0.3.1","1.1.0","9.0.0"]"#);
    assert_eq!(both.unwrap(), Version::V1_1_0);
    assert_eq!(
        version_of(r#""cniVersions":["1.0.0"]"#).unwrap(),
        Version::V1_0_0
    );
    for version in Version::ALL {
        assert_eq!(
            version_of(&format!(r#""cniVersion":"{version}""#)).unwrap(),
            version
        );
    }
}

#[test]
fn what_is_wrong_is_said() {
    let cases = [
        ("", "no JSON object"),
        ("[]", "no JSON object"),
        (r#"{"cniVersion":"1.0.0"}"#, "no \"name\""),
        (
            r#"{"cniVersion":"1.0.0","name":"../x","type":"x"}"#,
            "\"name\" must begin",
        ),
        (r#"{"cniVersion":"1.0.0","name":"n"}"#, "no plugins"),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#,
            "\"plugins\" is empty",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":{}}"#,
            "must be a list",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"a":1}]}"#,
            "plugin 1: it has no \"type\"",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","type":"../sh"}"#,
            "file name of a plugin",
        ),
        (
            r#"{"cniVersion":"2.0.0","name":"n","type":"x"}"#,
            "2.0.0, and 0.3.0 to 1.1.0",
        ),
        (r#"{"name":"n","type":"x"}"#, "no \"cniVersion\""),
        (
            r#"{"cniVersion":1,"name":"n","type":"x"}"#,
            "\"cniVersion\" must be a string",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","type":"x","disableCheck":3}"#,
            "true or false",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","loadOnlyInlinedPlugins":true}"#,
            "no \"plugins\"",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","type":"x","capabilities":[1]}"#,
            "\"capabilities\"",
        ),
    ];
    for (text, part) in cases {
        let reason = fault(text);
        assert!(reason.contains(part), "{text}: {reason}");
    }
}
