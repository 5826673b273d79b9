//! The bundled plugins beside the reference plugins: the same configuration, the same arguments, and
//! then everything that can be seen is compared; one adds and the other deletes.
//!
//! `CORTEN_CNI_REFERENCE` is the directory of the reference plugins, of 1.5 or later for all cases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chained;
mod faults;
mod keeping;
mod lab;
mod mends;
mod one_process;
#[path = "../own_namespaces/mod.rs"]
mod own_namespaces;
mod ptp;
mod refused;
mod tuning;

use corten_cni::AddResult;
use lab::{LIMIT, Lab, Side, in_own_namespaces, without_chance};
use own_namespaces::run;
use serde_json::{Value, json};

const SIDES: [Side; 2] = [Side::Reference, Side::Bundled];

/// A configuration of the bridge, of more plugins, and what the runtime offers.
struct Case {
    version: &'static str,
    bridge: Value,
    more: Vec<Value>,
    capabilities: Value,
}

fn result_without_chance(result: &AddResult) -> Value {
    let mut value: Value = serde_json::from_str(result.json()).unwrap();
    for interface in value["interfaces"].as_array_mut().into_iter().flatten() {
        let name = without_chance(interface["name"].as_str().unwrap_or_default());
        let mac = interface["mac"].as_str().map(str::len);
        interface["name"] = name.into();
        interface["mac"] = mac.into();
    }
    // Go leaves an empty one out in one version and writes it in another.
    if value["dns"] == json!({}) {
        value.as_object_mut().unwrap().remove("dns");
    }
    value
}

/// Adds by one, checks by both, deletes twice by another; gives what was seen after ADD and DEL.
async fn play(lab: &Lab, case: &Case, adds: Side, deletes: Side) -> (Value, Value) {
    let network = lab.network(case.version, &case.bridge, &case.more);
    let pod = lab.pod("pod", &case.capabilities);
    let result = lab.client(adds).add(&network, &pod, LIMIT).await.unwrap();
    let added = json!({"result": result_without_chance(&result), "seen": lab.seen("pod")});
    for side in SIDES.into_iter().filter(|_| network.version().has_check()) {
        let checked = lab.client(side).check(&network, &pod, LIMIT).await;
        checked.unwrap_or_else(|error| panic!("added by {adds:?}, checked by {side:?}: {error}"));
    }
    for _ in 0..2 {
        lab.client(deletes)
            .del(&network, &pod, LIMIT)
            .await
            .unwrap();
    }
    let deleted = lab.seen("pod");
    run("ip", &["netns", "delete", "pod"]);
    clean(lab);
    (added, deleted)
}

/// As before the first: rules, bridges and addresses gone.
fn clean(lab: &Lab) {
    run("nft", &["flush", "ruleset"]);
    if run("iptables", &["--version"]).contains("legacy") {
        for (program, verb) in [
            ("iptables", "-F"),
            ("iptables", "-X"),
            ("ip6tables", "-F"),
            ("ip6tables", "-X"),
        ] {
            run(program, &["-t", "nat", verb]);
            run(program, &["-t", "filter", verb]);
        }
    }
    if run("ip", &["link"]).contains("test0") {
        run("ip", &["link", "delete", "test0"]);
    }
    // The gateway's link in a VLAN is a pair of its own, which outlives the bridge.
    if run("ip", &["link"]).contains("test0.100") {
        run("ip", &["link", "delete", "test0.100"]);
    }
    let _ = std::fs::remove_dir_all(lab.ipam());
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/{key}"), "0").unwrap();
    }
}

async fn compare(name: &str, case: Case) {
    in_own_namespaces(name, |lab| async move {
        let (added, deleted) = play(&lab, &case, Side::Reference, Side::Reference).await;
        for (adds, deletes) in [
            (Side::Bundled, Side::Bundled),
            (Side::Bundled, Side::Reference),
            (Side::Reference, Side::Bundled),
            (Side::Chain, Side::Reference),
            (Side::Reference, Side::Chain),
        ] {
            let (also_added, also_deleted) = play(&lab, &case, adds, deletes).await;
            same(&format!("added by {adds:?}"), &added, &also_added);
            same(
                &format!("added by {adds:?}, deleted by {deletes:?}"),
                &deleted,
                &also_deleted,
            );
        }
    })
    .await;
}

fn same(what: &str, reference: &Value, bundled: &Value) {
    let mut paths = Vec::new();
    differences("", reference, bundled, &mut paths);
    assert!(paths.is_empty(), "{what}:\n{}", paths.join("\n"));
}

fn differences(path: &str, one: &Value, two: &Value, found: &mut Vec<String>) {
    match (one, two) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                differences(&format!("{path}/{key}"), &one[key], &two[key], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (x, y)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{at}"), x, y, found);
            }
        }
        _ if one == two => {}
        _ => found.push(format!("{path}:\n  reference {one:#}\n  bundled   {two:#}")),
    }
}

fn ranges(list: &Value) -> Value {
    json!({"ipam": {"ranges": list, "routes": [{"dst": "0.0.0.0/0"}]}})
}

fn with(mut value: Value, more: &Value) -> Value {
    for (key, it) in more.as_object().into_iter().flatten() {
        value[key] = it.clone();
    }
    value
}

fn one_subnet() -> Value {
    ranges(&json!([[{"subnet": "10.213.7.0/24"}]]))
}

/// Without routes.
fn two_subnets() -> Value {
    let ranges = json!([[{"subnet": "10.213.7.0/24"}], [{"subnet": "fd00:213:7::/64"}]]);
    json!({"ipam": {"ranges": ranges}})
}

fn two_families() -> Value {
    let mut both = two_subnets();
    both["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    both
}

fn range_and_routes(route: &Value) -> Value {
    let range = json!({"subnet": "10.213.7.0/24", "rangeStart": "10.213.7.50", "rangeEnd": "10.213.7.60", "gateway": "10.213.7.254"});
    json!({"ipam": {"ranges": [[range]], "routes": [{"dst": "10.3.0.0/16"}, route]}})
}

fn portmap() -> Value {
    json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true})
}

fn ports() -> Value {
    json!({"portMappings": [
        {"hostPort": 18080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 18081, "containerPort": 81, "protocol": "udp"},
        {"hostPort": 18082, "containerPort": 82, "protocol": "tcp", "hostIP": "10.1.2.3"},
        {"hostPort": 18083, "containerPort": 83, "protocol": "sctp"},
    ]})
}

macro_rules! cases {
    ($($name:ident: $version:literal, $bridge:expr, $more:expr, $capabilities:expr;)*) => {$(
        #[tokio::test]
        #[ignore = "needs root and the reference CNI plugins"]
        async fn $name() {
            let case = Case { version: $version, bridge: $bridge, more: $more, capabilities: $capabilities };
            compare(stringify!($name), case).await;
        }
    )*};
}

cases! {
    root_oracle_gateway: "1.0.0", with(one_subnet(), &json!({"isGateway": true})), vec![], json!({});
    root_oracle_no_gateway: "0.4.0", one_subnet(), vec![], json!({});
    root_oracle_oldest: "0.3.1", with(one_subnet(), &json!({"isGateway": true, "ipMasq": true})), vec![portmap()], ports();
    root_oracle_newest: "1.1.0", with(two_families(), &json!({"isGateway": true, "ipMasq": true})), vec![portmap()], ports();
    root_oracle_two_families: "1.0.0",
        with(two_subnets(), &json!({"isDefaultGateway": true, "ipMasq": true, "hairpinMode": true})), vec![portmap()], ports();
    root_oracle_nftables: "1.0.0",
        with(two_families(), &json!({"isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables"})),
        vec![with(portmap(), &json!({"backend": "nftables"}))], ports();
    root_oracle_promiscuous: "1.0.0", with(one_subnet(), &json!({"isGateway": true, "promiscMode": true, "mtu": 1400})), vec![], json!({});
    root_oracle_vlan: "1.0.0", with(one_subnet(), &json!({"vlan": 100})), vec![], json!({});
    root_oracle_vlan_gateway: "1.0.0", with(one_subnet(), &json!({"vlan": 100, "isGateway": true})), vec![], json!({});
    root_oracle_vlan_trunk: "1.0.0", with(one_subnet(), &json!({"vlanTrunk": [{"minID": 10, "maxID": 12}, {"id": 20}]})), vec![], json!({});
    root_oracle_spoofed: "1.0.0", with(one_subnet(), &json!({"macspoofchk": true})), vec![], json!({});
    root_oracle_wanted_mac: "1.0.0",
        with(one_subnet(), &json!({"capabilities": {"mac": true}})), vec![], json!({"mac": "02:11:22:33:44:55"});
    root_oracle_duplicates: "1.0.0", with(two_families(), &json!({"enabledad": true, "isGateway": true})), vec![], json!({});
    root_oracle_forced: "1.0.0", with(one_subnet(), &json!({"isGateway": true, "forceAddress": true})), vec![], json!({});
    root_oracle_names: "1.0.0",
        with(one_subnet(), &json!({"ISGATEWAY": true, "mtu": null, "dns": {"nameservers": ["10.9.9.9"], "search": ["a.b"]}})), vec![], json!({});
    root_oracle_legacy_rules: "1.0.0", with(two_families(), &json!({"isGateway": true, "ipMasq": true})), vec![portmap()], ports();
    root_oracle_routes: "1.1.0",
        range_and_routes(&json!({"dst": "10.1.0.0/16", "priority": 7})), vec![], json!({});
    // The reference plugin's CHECK does not find routes of other tables.
    root_oracle_table: "0.3.1", range_and_routes(&json!({"dst": "10.2.0.0/16", "gw": "10.213.7.9", "table": 100})), vec![], json!({});
    root_oracle_offered_ranges: "1.0.0", json!({"capabilities": {"ipRanges": true}, "isGateway": true}), vec![],
        json!({"ipRanges": [[{"subnet": "10.214.0.0/16"}], [{"subnet": "fd00:214::/112", "rangeStart": "fd00:214::8"}]]});
    root_oracle_external_mark: "1.0.0", with(one_subnet(), &json!({"isGateway": true})),
        vec![with(portmap(), &json!({"externalSetMarkChain": "POSTROUTING"}))], json!({"portMappings": []});
    root_oracle_addresses_of_the_host: "1.0.0", with(two_families(), &json!({"isGateway": true})), vec![portmap()],
        json!({"portMappings": [
            {"hostPort": 18080, "containerPort": 80, "protocol": "tcp", "hostIP": "0.0.0.0"},
            {"hostPort": 18081, "containerPort": 81, "protocol": "TCP", "hostIP": "::"},
            {"hostPort": 18082, "containerPort": 82, "protocol": "udp", "hostIP": "fd00::7"},
            {"hostPort": 18083, "containerPort": 82, "protocol": "udp", "hostIP": ""},
        ]});
    root_oracle_down: "0.3.1", json!({"ipam": {"type": ""}, "disableContainerInterface": true}), vec![], json!({});
    root_oracle_isolated: "1.0.0", with(one_subnet(), &json!({"portIsolation": true})), vec![], json!({});
    // Of a version without CHECK: the reference plugin asks for an IPAM plugin's there.
    root_oracle_layer_two: "0.3.1", json!({"ipam": {"type": ""}}), vec![], json!({});
    root_oracle_wanted_address: "1.0.0",
        with(one_subnet(), &json!({"capabilities": {"ips": true}})), vec![], json!({"ips": ["10.213.7.77/24"]});
    root_oracle_conditions: "1.0.0", with(one_subnet(), &json!({"isGateway": true})),
        vec![with(portmap(), &json!({"conditionsV4": ["-s", "10.9.0.0/16"]}))], ports();
    root_oracle_masq_all: "1.0.0", with(one_subnet(), &json!({"isGateway": true})),
        vec![with(portmap(), &json!({"masqAll": true, "markMasqBit": 5}))], ports();
    root_oracle_no_snat: "1.0.0", with(one_subnet(), &json!({"isGateway": true})),
        vec![with(portmap(), &json!({"snat": false}))], ports();
    root_oracle_many_ports: "1.0.0", with(one_subnet(), &json!({"isGateway": true})), vec![portmap()],
        json!({"portMappings": (0..40).map(|it| json!({"hostPort": 20000 + it, "containerPort": 1 + it, "protocol": "tcp"})).collect::<Vec<_>>()});
}
