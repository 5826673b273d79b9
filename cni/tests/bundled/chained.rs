//! The plugins that come after the one that makes the pod's link: firewall, bandwidth, and all in a chain.

use super::lab::{LIMIT, Side, in_own_namespaces};
use super::own_namespaces::run;
use super::refused::filter;
use super::{Case, SIDES, compare, one_subnet, portmap, ports, two_families, with};
use serde_json::{Value, json};

macro_rules! cases {
    ($($name:ident: $version:literal, $bridge:expr, $more:expr, $capabilities:expr;)*) => {$(
        #[tokio::test]
        #[ignore = "needs root and the reference CNI plugins"]
        async fn $name() {
            let case = Case { version: $version, bridge: $bridge, more: $more, capabilities: $capabilities };
            compare(concat!("chained::", stringify!($name)), case).await;
        }
    )*};
}

fn firewall(more: &Value) -> Value {
    with(json!({"type": "firewall"}), more)
}

fn bandwidth(more: &Value) -> Value {
    with(json!({"type": "bandwidth"}), more)
}

fn gateway(more: Value) -> Value {
    with(more, &json!({"isGateway": true}))
}

cases! {
    root_oracle_firewall: "1.0.0", gateway(two_families()), vec![firewall(&json!({}))], json!({});
    root_oracle_firewall_oldest: "0.4.0", gateway(one_subnet()), vec![firewall(&json!({"backend": "iptables"}))], json!({});
    root_oracle_firewall_same_bridge: "1.0.0", gateway(two_families()),
        vec![firewall(&json!({"ingressPolicy": "same-bridge"}))], json!({});
    root_oracle_firewall_isolated: "1.1.0", gateway(one_subnet()),
        vec![firewall(&json!({"INGRESSPOLICY": "isolated", "iptablesAdminChainName": "OPERATOR"}))], json!({});
    root_oracle_firewall_legacy: "1.0.0", gateway(two_families()),
        vec![firewall(&json!({"ingressPolicy": "isolated"}))], json!({});
    root_oracle_bandwidth: "1.0.0", gateway(one_subnet()),
        vec![bandwidth(&json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_001, "egressBurst": 123_457}))], json!({});
    root_oracle_bandwidth_oldest: "0.3.1", with(gateway(one_subnet()), &json!({"mtu": 1400})),
        vec![bandwidth(&json!({"capabilities": {"bandwidth": true}}))],
        json!({"bandwidth": {"egressRate": 50_000_000_000_u64, "egressBurst": 2_147_483_647}});
    root_oracle_bandwidth_to_the_pod: "1.1.0", gateway(one_subnet()),
        vec![bandwidth(&json!({"capabilities": {"bandwidth": true}}))],
        json!({"bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 8_000_000}});
    root_oracle_bandwidth_none: "1.0.0", gateway(one_subnet()),
        vec![bandwidth(&json!({"capabilities": {"bandwidth": true}}))], json!({"bandwidth": {"ingressRate": 0}});
    root_oracle_bandwidth_of_a_pair: "1.0.0", with(one_subnet(), &json!({"type": "ptp"})),
        vec![bandwidth(&json!({"egressRate": 8_000_000, "egressBurst": 800_000}))], json!({});
    root_oracle_all_in_a_chain: "1.0.0", with(gateway(two_families()), &json!({"ipMasq": true})),
        vec![
            portmap(),
            firewall(&json!({"ingressPolicy": "same-bridge"})),
            json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}),
            bandwidth(&json!({"capabilities": {"bandwidth": true}})),
        ],
        with(ports(), &json!({"bandwidth": {"egressRate": 8_000_000, "egressBurst": 800_000}}));
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_a_firewall_leaves_the_rules_of_others_and_the_policy() {
    let name = "chained::root_a_firewall_leaves_the_rules_of_others_and_the_policy";
    in_own_namespaces(name, |lab| async move {
        run("iptables", &["-P", "FORWARD", "DROP"]);
        run(
            "iptables",
            &["-A", "FORWARD", "-s", "10.9.9.9", "-j", "ACCEPT"],
        );
        let before = filter();
        let network = lab.network("1.0.0", &gateway(one_subnet()), &[firewall(&json!({}))]);
        let pods = ["one", "two"].map(|name| lab.pod(name, &json!({})));
        for (side, pod) in SIDES.into_iter().zip(&pods) {
            lab.client(side).add(&network, pod, LIMIT).await.unwrap();
        }
        assert!(filter().contains(":FORWARD DROP"), "{}", filter());
        assert_eq!(
            filter().matches("-A CNI-FORWARD").count(),
            5,
            "{}",
            filter()
        );
        let [reference, bundled] = SIDES.map(|side| lab.client(side));
        // Each deletes what the other made, while the other pod stays.
        reference.del(&network, &pods[1], LIMIT).await.unwrap();
        for client in [&reference, &bundled] {
            client.check(&network, &pods[0], LIMIT).await.unwrap();
        }
        run(
            "iptables",
            &["-D", "CNI-FORWARD", "-s", "10.213.7.2", "-j", "ACCEPT"],
        );
        for client in [&reference, &bundled] {
            client.check(&network, &pods[0], LIMIT).await.unwrap_err();
        }
        bundled.del(&network, &pods[0], LIMIT).await.unwrap();
        let own = "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD";
        let left = filter();
        assert!(left.contains(own) && !left.contains("10.213.7"), "{left}");
        for line in before.lines().filter(|line| line.starts_with("-A")) {
            assert!(left.contains(line), "{line} is gone: {left}");
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_a_limit_that_is_gone_is_seen_by_both() {
    let name = "chained::root_a_limit_that_is_gone_is_seen_by_both";
    in_own_namespaces(name, |lab| async move {
        let limits = json!({"egressRate": 8_000_000, "egressBurst": 800_000});
        let network = lab.network("1.0.0", &gateway(one_subnet()), &[bandwidth(&limits)]);
        let pod = lab.pod("pod", &json!({}));
        let added = lab.client(Side::Bundled).add(&network, &pod, LIMIT).await;
        let ifb = added.unwrap().interfaces.last().unwrap().name.clone();
        assert!(ifb.starts_with("bwp") && ifb.len() == 15, "{ifb}");
        let slower = ["rate", "1mbit", "burst", "10kb", "latency", "25ms"];
        let change = [
            "qdisc", "change", "dev", &ifb, "root", "handle", "1:", "tbf",
        ];
        run("tc", &[&change[..], &slower].concat());
        for side in SIDES {
            lab.client(side)
                .check(&network, &pod, LIMIT)
                .await
                .unwrap_err();
        }
        run("ip", &["link", "delete", &ifb]);
        for side in SIDES {
            lab.client(side)
                .check(&network, &pod, LIMIT)
                .await
                .unwrap_err();
        }
        lab.client(Side::Bundled)
            .del(&network, &pod, LIMIT)
            .await
            .unwrap();
    })
    .await;
}
