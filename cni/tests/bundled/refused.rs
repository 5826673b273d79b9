//! What the plugins that come after others refuse, as the reference plugins do, and that nothing is done to
//! the host.

use super::SIDES;
use super::faults::{ADD, call};
use super::lab::{Side, in_own_namespaces};
use super::own_namespaces::run;
use super::with;
use serde_json::{Value, json};

/// Rules of iptables' table filter, without the time of day.
pub fn filter() -> String {
    let text = run("iptables-save", &["-t", "filter"]);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A result as the bridge gives it.
pub fn result() -> Value {
    json!({"cniVersion": "1.0.0", "interfaces": [{"name": "test0"}, {"name": "eth0", "sandbox": "/run/netns/pod"}],
        "ips": [{"address": "10.213.7.2/24", "interface": 1}]})
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_oracle_refusals_in_a_chain() {
    let name = "refused::root_oracle_refusals_in_a_chain";
    in_own_namespaces(name, |lab| async move {
        run("ip", &["netns", "add", "pod"]);
        let before = filter();
        let at = ("CNI_NETNS", "/run/netns/pod");
        let [add, del, check] = ["ADD", "DEL", "CHECK"].map(|it| [("CNI_COMMAND", it), ADD[1], at, ADD[3]]);
        let conf = |more: &Value| {
            let head = json!({"cniVersion": "1.0.0", "name": "pods", "type": "any", "dataDir": lab.data_dir()});
            with(head, more).to_string()
        };
        let bad_policy = json!({"ingressPolicy": "closed"});
        let cases = [
            ("firewall", add, conf(&json!({}))),
            ("firewall", check, conf(&json!({}))),
            ("firewall", del, conf(&bad_policy)),
            ("firewall", add, conf(&json!({"cniVersion": "0.3.1", "prevResult": result()}))),
            ("firewall", add, conf(&json!({"backend": 7, "prevResult": result()}))),
            ("firewall", del, conf(&json!({}))),
            ("bandwidth", add, conf(&json!({"ingressRate": 5}))),
            ("bandwidth", del, conf(&json!({"egressBurst": 5}))),
            ("bandwidth", add, conf(&json!({"egressRate": 8, "egressBurst": 34_359_738_368_u64}))),
            ("bandwidth", add, conf(&json!({"egressRate": 800, "egressBurst": 800}))),
            ("bandwidth", add, conf(&json!({"egressRate": 800, "egressBurst": 800, "prevResult": result()}))),
            ("bandwidth", check, conf(&json!({"prevResult": result()}))),
            ("bandwidth", del, conf(&json!({}))),
            ("tuning", add, conf(&json!({"mtu": 1400}))),
            ("tuning", check, conf(&json!({"mtu": 1400}))),
            ("tuning", add, conf(&json!({"mtu": 1400, "prevResult": result()}))),
            ("tuning", add, conf(&json!({"sysctl": {"kernel.pid_max": "9"}, "prevResult": result()}))),
            ("tuning", add, conf(&json!({"sysctl": {"net.no.such": "9"}, "prevResult": result()}))),
            ("tuning", add, conf(&json!({"sysctl": {"net.core.somaxconn": 9}, "prevResult": result()}))),
            ("tuning", add, r#"{"cniVersion":"1.0.0","name":"a","sysctl":{"net.a":"1","net.a":"1"}}"#.to_owned()),
            ("tuning", del, conf(&json!({}))),
            ("ptp", add, conf(&json!({}))),
            ("ptp", check, conf(&json!({"cniVersion": "0.3.1"}))),
            ("ptp", add, conf(&json!({"cniVersion": "9"}))),
        ];
        for (plugin, env, conf) in cases {
            let [(ok, reference), (also_ok, bundled)] = SIDES.map(|side| call(&lab, side, plugin, &env, &conf));
            assert_eq!((ok, &reference["code"]), (also_ok, &bundled["code"]), "{plugin} {env:?} {conf}: {reference} and {bundled}");
        }
        let firewalld = json!({"backend": "firewalld", "prevResult": result()});
        let (ok, said) = call(&lab, Side::Bundled, "firewall", &add, &conf(&firewalld));
        assert!(!ok && said["code"] == 2, "{said}");
        assert_eq!(filter(), before);
        assert_eq!(lab.tuned(), json!({}));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_nothing_is_done_to_the_hosts_own_namespace() {
    let name = "refused::root_nothing_is_done_to_the_hosts_own_namespace";
    in_own_namespaces(name, |lab| async move {
        run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "other0"]);
        let own = |command| [("CNI_COMMAND", command), ADD[1], ("CNI_NETNS", "/proc/self/ns/net"), ADD[3]];
        let link = || run("ip", &["-d", "link", "show", "dev", "eth0"]);
        let (before, somaxconn) = (link(), "/proc/sys/net/core/somaxconn");
        let value = std::fs::read_to_string(somaxconn).unwrap();
        let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "any", "dataDir": lab.data_dir(),
            "ipam": {"type": "host-local", "dataDir": lab.ipam(), "subnet": "10.213.7.0/24"},
            "mtu": 1400, "sysctl": {"net.core.somaxconn": "77"}, "egressRate": 800, "egressBurst": 8000, "prevResult": result()});
        for plugin in ["tuning", "ptp", "bandwidth"] {
            for command in ["ADD", "CHECK", "DEL"] {
                let (ok, said) = call(&lab, Side::Bundled, plugin, &own(command), &conf.to_string());
                // What bandwidth's DEL takes back is not in the pod's namespace, whichever that is.
                let is_refused = !ok && said["code"] == 8;
                assert!(is_refused || plugin == "bandwidth" && command == "DEL", "{plugin} {command}: {said}");
            }
        }
        assert_eq!((link(), std::fs::read_to_string(somaxconn).unwrap()), (before, value));
        assert!(lab.held().iter().all(|(name, _)| !name.starts_with("10.")));
        assert_eq!(lab.tuned(), json!({}));
    })
    .await;
}
