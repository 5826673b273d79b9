//! What an attachment keeps while others end: GC, addresses asked for twice, what CHECK sees.

use super::faults::{ADD, call};
use super::lab::{LIMIT, Lab, Side, in_own_namespaces};
use super::own_namespaces::run;
use super::{one_subnet, two_families, with};
use serde_json::{Value, json};

/// A bridge's configuration as a plugin of its own gets it.
fn conf(lab: &Lab, more: &Value) -> String {
    let conf = json!({"cniVersion": "1.1.0", "name": "pods", "type": "bridge", "bridge": "test0",
        "ipam": {"type": "host-local", "dataDir": lab.ipam(), "subnet": "10.213.7.0/24"}});
    with(conf, more).to_string()
}

fn addresses(lab: &Lab) -> Vec<(String, String)> {
    let mut all = lab.held();
    all.retain(|(name, _)| name.starts_with("10.") || name.starts_with("fd00"));
    all
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_gc_keeps_what_is_valid_and_ends_the_rest() {
    let name = "keeping::root_gc_keeps_what_is_valid_and_ends_the_rest";
    in_own_namespaces(name, |lab| async move {
        let keys = json!({"ipMasq": true, "ipMasqBackend": "nftables"});
        let network = lab.network("1.1.0", &with(two_families(), &keys), &[]);
        for name in ["kept", "lost"] {
            let pod = lab.pod(name, &json!({}));
            lab.client(Side::Reference)
                .add(&network, &pod, LIMIT)
                .await
                .unwrap();
        }
        let rules = || run("nft", &["list", "table", "inet", "cni_plugins_masquerade"]);
        assert_eq!(
            (addresses(&lab).len(), rules().matches("id: ").count()),
            (4, 4)
        );
        let gc = |more: Value| {
            let keys = with(keys.clone(), &more);
            call(
                &lab,
                Side::Bundled,
                "bridge",
                &[("CNI_COMMAND", "GC")],
                &conf(&lab, &keys),
            )
        };
        let (ok, refused) = gc(json!({}));
        assert!(
            !ok && refused["code"] == 7,
            "a call without the list: {refused}"
        );
        assert_eq!(addresses(&lab).len(), 4);
        let valid =
            json!({"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]});
        let (ok, said) = gc(valid);
        assert!(ok, "{said}");
        let owners: Vec<_> = addresses(&lab)
            .into_iter()
            .map(|(_, owner)| owner)
            .collect();
        assert_eq!(owners, ["kept\r\neth0", "kept\r\neth0"]);
        assert_eq!(
            (
                rules().matches("id: kept").count(),
                rules().matches("id: lost").count()
            ),
            (2, 0)
        );
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_a_second_add_takes_nothing_from_the_first() {
    let name = "keeping::root_a_second_add_takes_nothing_from_the_first";
    in_own_namespaces(name, |lab| async move {
        for wanted in [json!({}), json!({"ips": ["10.213.7.77"]})] {
            let keys = json!({"runtimeConfig": wanted});
            let add = || call(&lab, Side::Bundled, "host-local", &ADD, &conf(&lab, &keys));
            assert!(add().0);
            let held = addresses(&lab);
            assert_eq!(held.len(), 1);
            assert!(!add().0, "the same once more");
            assert_eq!(addresses(&lab), held);
            let del = [("CNI_COMMAND", "DEL"), ADD[1], ADD[3]];
            assert!(call(&lab, Side::Bundled, "host-local", &del, &conf(&lab, &keys)).0);
            assert_eq!(addresses(&lab), []);
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_check_sees_what_is_not_as_it_was() {
    let name = "keeping::root_check_sees_what_is_not_as_it_was";
    in_own_namespaces(name, |lab| async move {
        let bridge = with(one_subnet(), &json!({"isGateway": true}));
        let network = lab.network("1.0.0", &bridge, &[super::portmap()]);
        let pod = lab.pod("pod", &super::ports());
        let client = lab.client(Side::Bundled);
        client.add(&network, &pod, LIMIT).await.unwrap();
        client.check(&network, &pod, LIMIT).await.unwrap();
        // Each is broken, seen, and mended.
        let inside = ["-n", "pod"];
        let harms: [(&[&str], &[&str]); 4] = [
            (
                &["addr", "del", "10.213.7.2/24", "dev", "eth0"],
                &["addr", "add", "10.213.7.2/24", "dev", "eth0"],
            ),
            (
                &["route", "add", "default", "via", "10.213.7.1"],
                &["route", "del", "default"],
            ),
            (
                &["route", "del", "default"],
                &["route", "add", "default", "via", "10.213.7.1"],
            ),
            (
                &["link", "set", "eth0", "address", "02:00:00:00:00:01"],
                &["link", "show"],
            ),
        ];
        for (at, (harm, mend)) in harms.iter().enumerate() {
            // The second mends what went with the first's address.
            run("ip", &[&inside[..], harm].concat());
            let seen = client.check(&network, &pod, LIMIT).await;
            assert_eq!(seen.is_err(), at != 1, "{harm:?}: {seen:?}");
            if at != 1 {
                run("ip", &[&inside[..], mend].concat());
            }
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_check_sees_ports_that_are_gone() {
    let name = "keeping::root_check_sees_ports_that_are_gone";
    in_own_namespaces(name, |lab| async move {
        for backend in ["iptables", "nftables"] {
            let more = [with(super::portmap(), &json!({"backend": backend}))];
            let network = lab.network("1.0.0", &one_subnet(), &more);
            let pod = lab.pod("pod", &super::ports());
            let client = lab.client(Side::Bundled);
            client.add(&network, &pod, LIMIT).await.unwrap();
            client.check(&network, &pod, LIMIT).await.unwrap();
            run("nft", &["flush", "ruleset"]);
            let seen = client.check(&network, &pod, LIMIT).await.unwrap_err();
            assert!(seen.to_string().contains("portmap"), "{seen}");
            client.del(&network, &pod, LIMIT).await.unwrap();
            run("ip", &["netns", "delete", "pod"]);
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_a_pod_without_addresses_is_checked_and_a_bridge_needs_no_ipam() {
    let name = "keeping::root_a_pod_without_addresses_is_checked_and_a_bridge_needs_no_ipam";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network("1.1.0", &json!({"ipam": {"type": ""}}), &[]);
        let pod = lab.pod("pod", &json!({}));
        let client = lab.client(Side::Bundled);
        client.add(&network, &pod, LIMIT).await.unwrap();
        client.check(&network, &pod, LIMIT).await.unwrap();
        run("ip", &["-n", "pod", "link", "delete", "eth0"]);
        client.check(&network, &pod, LIMIT).await.unwrap_err();
        let none = conf(&lab, &json!({"ipam": {}}));
        let (ok, said) = call(
            &lab,
            Side::Bundled,
            "bridge",
            &[("CNI_COMMAND", "STATUS")],
            &none,
        );
        assert!(ok, "{said}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_another_ipam_plugin_is_run() {
    let name = "keeping::root_another_ipam_plugin_is_run";
    in_own_namespaces(name, |lab| async move {
        let dir = lab.plugins(Side::Bundled);
        std::os::unix::fs::symlink(lab.plugins(Side::Reference).join("static"), dir.join("static")).unwrap();
        let keys = json!({"ipam": {"type": "static", "addresses": [{"address": "10.213.9.5/24", "gateway": "10.213.9.1"}]}});
        let network = lab.network("1.0.0", &keys, &[]);
        let pod = lab.pod("pod", &json!({}));
        let result = lab.client(Side::Bundled).add(&network, &pod, LIMIT).await.unwrap();
        let given: Vec<_> = result.addresses("eth0").map(|it| it.to_string()).collect();
        assert_eq!(given, ["10.213.9.5/24"]);
        lab.client(Side::Bundled).check(&network, &pod, LIMIT).await.unwrap();
        let refused = lab.network("1.0.0", &json!({"ipam": {"type": "static", "addresses": [{"address": "none"}]}}), &[]);
        let other = lab.pod("other", &json!({}));
        let error = lab.client(Side::Bundled).add(&refused, &other, LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    })
    .await;
}

/// The reference plugin reads these and does nothing with them.
#[tokio::test]
#[ignore = "needs root"]
async fn root_a_route_has_its_metrics() {
    let name = "keeping::root_a_route_has_its_metrics";
    in_own_namespaces(name, |lab| async move {
        let route = json!({"dst": "10.1.0.0/16", "mtu": 1300, "advmss": 1200});
        let network = lab.network("1.1.0", &super::range_and_routes(&route), &[]);
        let pod = lab.pod("pod", &json!({}));
        lab.client(Side::Bundled)
            .add(&network, &pod, LIMIT)
            .await
            .unwrap();
        let routes = run("ip", &["-n", "pod", "route", "show", "10.1.0.0/16"]);
        assert!(routes.contains("mtu 1300 advmss 1200"), "{routes}");
    })
    .await;
}
