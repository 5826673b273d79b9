//! `tuning`: what it sets, what it gives back, and what a node allows.

use super::faults::{ADD, call};
use super::lab::{Lab, MAC, Side, in_own_namespaces};
use super::own_namespaces::run;
use super::refused::result;
use super::{Case, SIDES, compare, one_subnet, with};
use serde_json::{Value, json};

/// After the bridge.
async fn tuned(name: &str, version: &'static str, keys: Value, capabilities: Value) {
    let bridge = with(one_subnet(), &json!({"isGateway": true}));
    let case = Case {
        version,
        bridge,
        more: vec![with(json!({"type": "tuning"}), &keys)],
        capabilities,
    };
    compare(&format!("tuning::{name}"), case).await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_oracle_tuning() {
    let keys = json!({"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1", "net.core.somaxconn": "500"},
        "mtu": 1400, "TXQLEN": 77, "allmulti": true, "promisc": true});
    tuned("root_oracle_tuning", "1.0.0", keys, json!({})).await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_oracle_tuning_mac() {
    let keys = json!({"capabilities": {"mac": true}, "mac": "02:00:00:00:00:09", "allmulti": false, "txQLen": 0});
    tuned("root_oracle_tuning_mac", "1.1.0", keys, json!({"mac": MAC})).await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_oracle_tuning_args() {
    let args = json!({"mac": MAC, "mtu": 1300, "sysctl": {"net/core/somaxconn": "501"}});
    let keys = json!({"mtu": 1400, "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "args": {"cni": args}});
    tuned("root_oracle_tuning_args", "0.3.1", keys, json!({})).await;
}

/// A namespace `pod` with a link `eth0`, whose other end is there too, so that both go at once.
fn make_pod() {
    run("ip", &["netns", "add", "pod"]);
    let pair = ["link", "add", "v0", "type", "veth", "peer", "name", "eth0"];
    run("ip", &[&["-n", "pod"], &pair[..]].concat());
    run("ip", &["-n", "pod", "link", "set", "eth0", "up"]);
}

fn environment(command: &'static str) -> [(&'static str, &'static str); 4] {
    [
        ("CNI_COMMAND", command),
        ADD[1],
        ("CNI_NETNS", "/run/netns/pod"),
        ADD[3],
    ]
}

fn conf(lab: &Lab, more: &Value) -> String {
    let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "tuning", "dataDir": lab.data_dir(), "prevResult": result()});
    with(conf, more).to_string()
}

/// Of the link all that tuning can set.
fn link() -> [Value; 5] {
    let all: Value = serde_json::from_str(&run(
        "ip",
        &["-n", "pod", "-d", "-j", "link", "show", "dev", "eth0"],
    ))
    .unwrap();
    ["address", "mtu", "txqlen", "promiscuity", "flags"].map(|key| all[0][key].clone())
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_tuning_gives_back_what_it_took() {
    let name = "tuning::root_tuning_gives_back_what_it_took";
    in_own_namespaces(name, |lab| async move {
        let keys =
            json!({"mac": MAC, "mtu": 1300, "txQLen": 77, "allmulti": true, "promisc": true});
        let mut added = Vec::new();
        for (adds, deletes) in SIDES
            .into_iter()
            .flat_map(|adds| SIDES.map(|deletes| (adds, deletes)))
        {
            make_pod();
            let before = link();
            let (ok, said) = call(
                &lab,
                adds,
                "tuning",
                &environment("ADD"),
                &conf(&lab, &keys),
            );
            assert!(ok, "{said}");
            assert_ne!(link(), before);
            added.push((link(), lab.tuned(), said));
            for _ in 0..2 {
                assert!(
                    call(
                        &lab,
                        deletes,
                        "tuning",
                        &environment("DEL"),
                        &conf(&lab, &keys)
                    )
                    .0
                );
            }
            assert_eq!(link(), before, "{adds:?}, {deletes:?}");
            assert_eq!(lab.tuned(), json!({}), "{adds:?}, {deletes:?}");
            run("ip", &["netns", "delete", "pod"]);
        }
        assert!(
            added
                .iter()
                .all(|it| it.0 == added[0].0 && it.1 == added[0].1),
            "{added:?}"
        );
        assert!(
            added
                .iter()
                .all(|it| it.2["interfaces"] == added[0].2["interfaces"]),
            "{added:?}"
        );
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_tuning_keeps_nothing_of_a_namespace_that_is_gone() {
    let name = "tuning::root_tuning_keeps_nothing_of_a_namespace_that_is_gone";
    in_own_namespaces(name, |lab| async move {
        let keys = conf(&lab, &json!({"mtu": 1300}));
        for netns in ["/run/netns/pod", ""] {
            make_pod();
            assert!(call(&lab, Side::Bundled, "tuning", &environment("ADD"), &keys).0);
            assert_ne!(lab.tuned(), json!({}));
            run("ip", &["netns", "delete", "pod"]);
            let del = [("CNI_COMMAND", "DEL"), ADD[1], ("CNI_NETNS", netns), ADD[3]];
            assert!(call(&lab, Side::Bundled, "tuning", &del, &keys).0);
            assert_eq!(lab.tuned(), json!({}));
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_oracle_tuning_allows_what_the_node_allows() {
    let name = "tuning::root_oracle_tuning_allows_what_the_node_allows";
    in_own_namespaces(name, |lab| async move {
        make_pod();
        let plugins = SIDES.map(|side| lab.plugins(side));
        assert!(plugins.iter().all(|dir| dir.is_dir()));
        // Nothing else of it is needed here, and it goes with the namespace.
        run("mount", &["-t", "tmpfs", "tmpfs", "/etc"]);
        std::fs::create_dir_all("/etc/cni/tuning").unwrap();
        let put = |text| std::fs::write("/etc/cni/tuning/allowlist.conf", text).unwrap();
        let is_allowed = |key: &str| {
            let keys = conf(&lab, &json!({"sysctl": {key: "1"}}));
            let said = SIDES.map(|side| call(&lab, side, "tuning", &environment("ADD"), &keys));
            let [(ok, reference), (also_ok, bundled)] = said;
            assert_eq!(
                (ok, &reference["code"]),
                (also_ok, &bundled["code"]),
                "{key}: {reference} and {bundled}"
            );
            ok
        };
        put("^net\\.ipv4\\.conf\\.[a-zA-Z0-9]+\\.arp_(filter|ignore)$\n\n  somaxconn  \n");
        let keys = [
            "net.ipv4.conf.IFNAME.arp_filter",
            "net.ipv4.conf.IFNAME.arp_filters",
            "net.core.somaxconn",
            "net.ipv4.ip_forward",
        ];
        assert_eq!(keys.map(is_allowed), [true, false, true, false]);
        put("(");
        assert!(!is_allowed("net.core.somaxconn"));
        std::fs::remove_file("/etc/cni/tuning/allowlist.conf").unwrap();
        assert!(is_allowed("net.ipv4.ip_forward"));
    })
    .await;
}
