use super::*;

const OF_1_1: &str = r#"{
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "cni0", "mac": "02:00:00:00:00:01", "mtu": 1500},
        {"name": "eth0", "sandbox": "/run/netns/a", "pciID": "0000:00:1f.6"}
    ],
    "ips": [
        {"address": "10.1.0.1/16", "interface": 0},
        {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
        {"address": "fd00::5/64", "interface": 1}
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "priority": 7}],
    "dns": {"nameservers": ["10.1.0.1"], "search": ["x.test"]},
    "vendor": {"key": 1}
}"#;

const OF_0_4: &str = r#"{
    "cniVersion": "0.4.0",
    "interfaces": [{"name": "eth0", "sandbox": "/run/netns/a"}],
    "ips": [{"version": "4", "address": "10.1.0.5/16", "gateway": "", "interface": 0}],
    "routes": null, "dns": {}
}"#;

fn parse(text: &str, version: Version) -> AddResult {
    AddResult::parse(text.as_bytes(), version).unwrap()
}

fn json_of(result: &AddResult) -> Value {
    serde_json::from_str(result.json()).unwrap()
}

#[test]
fn the_chains_own_version_passes_unchanged() {
    let result = parse(OF_1_1, Version::V1_1_0);
    assert_eq!(result.json(), OF_1_1);
    assert_eq!(result.interfaces[1].pci_id.as_deref(), Some("0000:00:1f.6"));
    assert_eq!(result.routes[0].priority, Some(7));
    assert_eq!(result.dns.search, ["x.test"]);
}

#[test]
fn only_addresses_inside_are_the_containers() {
    let result = parse(OF_1_1, Version::V1_1_0);
    let addresses: Vec<_> = result.addresses("eth0").map(|it| it.to_string()).collect();
    assert_eq!(addresses, ["10.1.0.5/16", "fd00::5/64"]);
    assert_eq!(
        result.addresses("cni0").count(),
        0,
        "an interface of the host"
    );
}

#[test]
fn an_address_without_interface_is_the_containers() {
    let result = parse(
        r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/8","interface":-1}]}"#,
        Version::V1_0_0,
    );
    assert_eq!(result.addresses("eth0").count(), 1);
}

#[test]
fn down_to_0_4_addresses_name_their_family() {
    let json = json_of(&parse(OF_1_1, Version::V0_4_0));
    assert_eq!(json["cniVersion"], "0.4.0");
    assert_eq!(json["ips"][1]["version"], "4");
    assert_eq!(json["ips"][2]["version"], "6");
    assert_eq!(
        json["interfaces"][0],
        serde_json::json!({"name": "cni0", "mac": "02:00:00:00:00:01"})
    );
    assert_eq!(json["interfaces"][1].get("pciID"), None);
    assert_eq!(json["routes"][0]["gw"], "10.1.0.1");
}

#[test]
fn up_from_0_4_the_family_goes() {
    let json = json_of(&parse(OF_0_4, Version::V1_0_0));
    assert_eq!(json["cniVersion"], "1.0.0");
    assert_eq!(
        json["ips"][0],
        serde_json::json!({"address": "10.1.0.5/16", "interface": 0})
    );
}

#[test]
fn what_is_written_is_read_the_same() {
    for version in Version::ALL {
        let first = parse(OF_0_4, version);
        let again = parse(first.json(), version);
        assert_eq!(
            (&first.ips, &first.interfaces),
            (&again.ips, &again.interfaces),
            "{version}"
        );
    }
}

#[test]
fn a_missing_version_is_the_chains() {
    let result = parse(
        r#"{"ips":[{"address":"10.0.0.2/8"}],"x":1}"#,
        Version::V0_3_1,
    );
    let json = json_of(&result);
    assert_eq!(
        (&json["cniVersion"], &json["x"]),
        (&"0.3.1".into(), &1.into())
    );
}

#[test]
fn what_is_no_result_is_told() {
    let cases = [
        ("", "EOF"),
        ("hello", "expected value"),
        (r#"{"cniVersion":"0.2.0","ip4":{}}"#, "0.2.0"),
        (
            r#"{"ips":[{"address":"10.0.0.2"}]}"#,
            "no address with a prefix",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2/33"}]}"#,
            "no address with a prefix",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.2/8","interface":0}]}"#,
            "not listed",
        ),
    ];
    for (text, part) in cases {
        let reason = AddResult::parse(text.as_bytes(), Version::V1_0_0).unwrap_err();
        assert!(reason.contains(part), "{text}: {reason}");
    }
}
