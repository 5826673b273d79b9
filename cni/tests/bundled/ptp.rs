//! `ptp`, and what is left of a pod of it.

use super::lab::{LIMIT, Side, in_own_namespaces};
use super::own_namespaces::run;
use super::{
    Case, compare, one_subnet, portmap, ports, range_and_routes, two_families, two_subnets, with,
};
use serde_json::{Value, json};

macro_rules! cases {
    ($($name:ident: $version:literal, $keys:expr, $more:expr, $capabilities:expr;)*) => {$(
        #[tokio::test]
        #[ignore = "needs root and the reference CNI plugins"]
        async fn $name() {
            let case = Case { version: $version, bridge: ptp($keys), more: $more, capabilities: $capabilities };
            compare(concat!("ptp::", stringify!($name)), case).await;
        }
    )*};
}

fn ptp(keys: Value) -> Value {
    with(keys, &json!({"type": "ptp"}))
}

cases! {
    root_oracle_ptp: "1.0.0", one_subnet(), vec![], json!({});
    root_oracle_ptp_oldest: "0.3.1", with(one_subnet(), &json!({"ipMasq": true, "mtu": 1400})), vec![portmap()], ports();
    root_oracle_ptp_two_families: "1.1.0", with(two_families(), &json!({"ipMasq": true})), vec![portmap()], ports();
    root_oracle_ptp_no_routes: "1.0.0", with(two_subnets(), &json!({"IPMASQ": false, "mtu": null})), vec![], json!({});
    root_oracle_ptp_nftables: "1.0.0",
        with(one_subnet(), &json!({"ipMasq": true, "ipMasqBackend": "nftables"})), vec![], json!({});
    root_oracle_ptp_routes: "1.1.0", range_and_routes(&json!({"dst": "10.1.0.0/16", "priority": 7})), vec![], json!({});
    root_oracle_ptp_names: "0.4.0",
        with(one_subnet(), &json!({"dns": {"nameservers": ["10.9.9.9"], "domain": "a.b"}})), vec![], json!({});
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_ptp_of_a_namespace_that_is_gone_gives_all_back() {
    let name = "ptp::root_ptp_of_a_namespace_that_is_gone_gives_all_back";
    in_own_namespaces(name, |lab| async move {
        let keys = ptp(with(one_subnet(), &json!({"ipMasq": true})));
        let network = lab.network("1.1.0", &keys, &[portmap()]);
        for adds in [Side::Reference, Side::Bundled] {
            let pod = lab.pod("pod", &ports());
            lab.client(adds).add(&network, &pod, LIMIT).await.unwrap();
            run("ip", &["netns", "delete", "pod"]);
            for _ in 0..2 {
                lab.client(Side::Bundled)
                    .del(&network, &pod, LIMIT)
                    .await
                    .unwrap();
            }
            let rules = run("iptables-save", &["-t", "nat"]);
            assert!(!rules.contains("10.213.7"), "{rules}");
            assert!(lab.held().iter().all(|(name, _)| !name.starts_with("10.")));
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_ptp_carries_packets_between_pods() {
    let name = "ptp::root_ptp_carries_packets_between_pods";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network("1.1.0", &ptp(two_families()), &[]);
        let pods = ["one", "two"].map(|name| lab.pod(name, &json!({})));
        let mut addresses = Vec::new();
        for (side, pod) in super::SIDES.into_iter().zip(&pods) {
            let result = lab.client(side).add(&network, pod, LIMIT).await.unwrap();
            addresses.push(result.addresses("eth0").collect::<Vec<_>>());
        }
        for (from, to) in [("one", 1), ("two", 0)] {
            for address in &addresses[to] {
                let to = address.addr.to_string();
                run(
                    "ip",
                    &["netns", "exec", from, "ping", "-c", "1", "-W", "10", &to],
                );
            }
        }
    })
    .await;
}
