//! The plugins that come after the one that makes the pod's link: firewall, and all in a chain.

use super::lab::{LIMIT, in_own_namespaces};
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
    root_oracle_all_in_a_chain: "1.0.0", with(gateway(two_families()), &json!({"ipMasq": true})),
        vec![
            portmap(),
            firewall(&json!({"ingressPolicy": "same-bridge"})),
            json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}),
        ],
        ports();
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
