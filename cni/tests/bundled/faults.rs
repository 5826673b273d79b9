//! What is refused, what is raced for, and what is left of something that was cut short.

use std::io::Write;
use std::process::{Command, Stdio};

use super::lab::{LIMIT, Lab, Side, in_own_namespaces};
use super::own_namespaces::run;
use super::{SIDES, one_subnet, portmap, ports, with};
use corten_cni::Error;
use serde_json::{Value, json};

/// Runs one plugin as a runtime does; gives its exit and what it printed.
pub fn call(
    lab: &Lab,
    side: Side,
    plugin: &str,
    env: &[(&str, &str)],
    conf: &str,
) -> (bool, Value) {
    let dir = lab.plugins(side);
    let mut child = Command::new(dir.join(plugin))
        .env("CNI_PATH", &dir)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // One that refuses its environment reads nothing.
    let _ = child.stdin.take().unwrap().write_all(conf.as_bytes());
    let output = child.wait_with_output().unwrap();
    (
        output.status.success(),
        serde_json::from_slice(&output.stdout).unwrap_or_default(),
    )
}

pub type Variable = (&'static str, &'static str);

pub const ADD: [Variable; 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "pod"),
    ("CNI_NETNS", "/run/netns/none"),
    ("CNI_IFNAME", "eth0"),
];

fn bridge(more: &Value) -> String {
    let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "test0",
        "ipam": {"type": "host-local", "dataDir": "/run/ipam", "subnet": "10.213.7.0/24"}});
    with(conf, more).to_string()
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_oracle_refusals() {
    in_own_namespaces("faults::root_oracle_refusals", |lab| async move {
        let del = [("CNI_COMMAND", "DEL"), ADD[1], ADD[3]];
        let bad_id = [ADD[0], ("CNI_CONTAINERID", "../x"), ADD[2], ADD[3]];
        let cases: Vec<(&str, &[Variable], String)> = vec![
            ("bridge", &ADD, bridge(&json!({}))),
            ("bridge", &ADD, "nonsense".to_owned()),
            ("bridge", &ADD, bridge(&json!({"cniVersion": "7.0.0"}))),
            ("bridge", &ADD, bridge(&json!({"name": ""}))),
            ("bridge", &ADD, bridge(&json!({"name": "a/b"}))),
            ("bridge", &ADD, bridge(&json!({"vlan": 5000}))),
            ("bridge", &ADD, bridge(&json!({"hairpinMode": true, "promiscMode": true}))),
            ("bridge", &ADD[..3], bridge(&json!({}))),
            ("bridge", &bad_id, bridge(&json!({}))),
            ("bridge", &[("CNI_COMMAND", "CHECK"), ADD[1], ADD[2], ADD[3]], bridge(&json!({"cniVersion": "0.3.1"}))),
            ("bridge", &[("CNI_COMMAND", "GC")], bridge(&json!({}))),
            ("bridge", &[("CNI_COMMAND", "STATUS")], bridge(&json!({}))),
            ("host-local", &ADD, bridge(&json!({"ipam": {"type": "host-local"}}))),
            ("host-local", &ADD, bridge(&json!({"ipam": {"type": "host-local", "subnet": "10.1.2.3/24"}}))),
            ("host-local", &ADD, bridge(&json!({"args": {"cni": {"ips": ["10.9.9.9"]}}}))),
            ("portmap", &ADD, bridge(&json!({"runtimeConfig": {"portMappings": [{"hostPort": 0, "containerPort": 1, "protocol": "tcp"}]}}))),
            ("portmap", &ADD, bridge(&json!({"markMasqBit": 32}))),
            ("portmap", &ADD, bridge(&json!({}))),
            ("bridge", &del, bridge(&json!({}))),
            ("loopback", &ADD, bridge(&json!({}))),
        ];
        for (plugin, env, conf) in cases {
            let [(ok, reference), (also_ok, bundled)] = SIDES.map(|side| call(&lab, side, plugin, env, &conf));
            assert_eq!((ok, &reference["code"]), (also_ok, &bundled["code"]), "{plugin} {env:?} {conf}: {reference} and {bundled}");
        }
        assert_eq!(lab.held(), []);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_loopback_and_version() {
    in_own_namespaces("faults::root_loopback_and_version", |lab| async move {
        run("ip", &["netns", "add", "lo1"]);
        let conf = json!({"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}).to_string();
        let env = [
            ADD[0],
            ADD[1],
            ("CNI_NETNS", "/run/netns/lo1"),
            ("CNI_IFNAME", "lo"),
        ];
        let down = [("CNI_COMMAND", "DEL"), env[1], env[2], env[3]];
        let results = SIDES.map(|side| {
            let (ok, result) = call(&lab, side, "loopback", &env, &conf);
            assert!(ok, "{result}");
            assert!(call(&lab, side, "loopback", &down, &conf).0);
            assert!(!run("ip", &["-n", "lo1", "link"]).contains("LOOPBACK,UP"));
            result
        });
        assert_eq!(results[0]["interfaces"], results[1]["interfaces"]);
        assert_eq!(results[0]["ips"], results[1]["ips"]);
        let (ok, said) = call(
            &lab,
            Side::Bundled,
            "bridge",
            &[("CNI_COMMAND", "VERSION")],
            "",
        );
        assert!(
            ok && said["supportedVersions"]
                .as_array()
                .unwrap()
                .contains(&json!("1.1.0")),
            "{said}"
        );
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_two_plugins_never_give_one_address_twice() {
    let name = "faults::root_two_plugins_never_give_one_address_twice";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network("1.0.0", &one_subnet(), &[]);
        let mut adds = tokio::task::JoinSet::new();
        for number in 0..16 {
            let pod = lab.pod(&format!("pod{number}"), &json!({}));
            let (client, network) = (lab.client(SIDES[number % 2]), network.clone());
            adds.spawn(async move { client.add(&network, &pod, LIMIT).await.unwrap() });
        }
        let results = adds.join_all().await;
        let given: std::collections::BTreeSet<_> = results
            .iter()
            .flat_map(|it| it.addresses("eth0"))
            .map(|it| it.to_string())
            .collect();
        assert_eq!(given.len(), 16);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_ports_of_many_pods_at_once_are_all_there() {
    let name = "faults::root_ports_of_many_pods_at_once_are_all_there";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network(
            "1.0.0",
            &with(one_subnet(), &json!({"ipMasq": true})),
            &[portmap()],
        );
        let mut adds = tokio::task::JoinSet::new();
        let mut pods = Vec::new();
        for number in 0..8 {
            let mapping =
                json!({"hostPort": 19000 + number, "containerPort": 80, "protocol": "tcp"});
            let pod = lab.pod(&format!("pod{number}"), &json!({"portMappings": [mapping]}));
            let (client, network, attached) =
                (lab.client(Side::Bundled), network.clone(), pod.clone());
            adds.spawn(async move { client.add(&network, &attached, LIMIT).await.unwrap() });
            pods.push(pod);
        }
        adds.join_all().await;
        let rules = run("iptables-save", &["-t", "nat"]);
        let count = |part: &str| rules.lines().filter(|line| line.contains(part)).count();
        assert_eq!(
            (
                count("-j DNAT"),
                count("-A PREROUTING"),
                count("-j CNI-HOSTPORT-MASQ")
            ),
            (8, 1, 1),
            "{rules}"
        );
        for pod in pods {
            lab.client(Side::Bundled)
                .del(&network, &pod, LIMIT)
                .await
                .unwrap();
        }
        assert!(!run("iptables-save", &["-t", "nat"]).contains("DNAT --to"));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_a_pool_that_is_empty_says_so_and_keeps_nothing() {
    let name = "faults::root_a_pool_that_is_empty_says_so_and_keeps_nothing";
    in_own_namespaces(name, |lab| async move {
        let small =
            super::ranges(&json!([[{"subnet": "10.213.7.0/24"}], [{"subnet": "10.213.8.0/30"}]]));
        let network = lab.network("1.0.0", &small, &[]);
        let (first, second) = (lab.pod("one", &json!({})), lab.pod("two", &json!({})));
        let client = lab.client(Side::Bundled);
        client.add(&network, &first, LIMIT).await.unwrap();
        let held = lab.held();
        let error = client.add(&network, &second, LIMIT).await.unwrap_err();
        assert!(matches!(&error, Error::PluginFailed { .. }), "{error}");
        assert!(
            error.to_string().contains("no IP addresses available"),
            "{error}"
        );
        let addresses = |all: Vec<(String, String)>| {
            all.into_iter()
                .filter(|(name, _)| !name.starts_with("last"))
                .collect::<Vec<_>>()
        };
        assert_eq!(addresses(lab.held()), addresses(held));
        assert_eq!(
            run("ip", &["link"]).matches("veth").count(),
            1,
            "the second pod's pair is gone"
        );
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_a_namespace_that_is_gone_gives_all_back() {
    let name = "faults::root_a_namespace_that_is_gone_gives_all_back";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network(
            "1.0.0",
            &with(one_subnet(), &json!({"ipMasq": true})),
            &[portmap()],
        );
        let pod = lab.pod("pod", &ports());
        let client = lab.client(Side::Bundled);
        client.add(&network, &pod, LIMIT).await.unwrap();
        run("ip", &["netns", "delete", "pod"]);
        for _ in 0..2 {
            client.del(&network, &pod, LIMIT).await.unwrap();
        }
        let rules = run("iptables-save", &["-t", "nat"]);
        assert!(
            !rules.contains("CNI-DN-") && !rules.contains("10.213.7.2"),
            "{rules}"
        );
        assert!(lab.held().iter().all(|(name, _)| !name.starts_with("10.")));
    })
    .await;
}

/// How far an ADD has come, as it can be seen from outside.
type Stage = (&'static str, fn(&Lab) -> bool);

const STAGES: [Stage; 5] = [
    ("it is started", |_| true),
    ("the bridge is there", |_| {
        run("ip", &["link"]).contains("test0")
    }),
    ("the pair is there", |_| {
        run("ip", &["link"]).contains("veth")
    }),
    ("the address is held", |lab| {
        lab.held().iter().any(|(name, _)| name.starts_with("10."))
    }),
    ("the rules are there", |_| {
        run("iptables-save", &["-t", "nat"]).contains("10.213.7")
    }),
];

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_what_a_kill_leaves_goes_with_the_del() {
    let name = "faults::root_what_a_kill_leaves_goes_with_the_del";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network("1.0.0", &with(one_subnet(), &json!({"ipMasq": true})), &[]);
        let client = lab.client(Side::Bundled);
        let pod = lab.pod("pod", &json!({}));
        let ipam = json!({"type": "host-local", "dataDir": lab.ipam(), "subnet": "10.213.7.0/24"});
        let conf = bridge(&json!({"ipMasq": true, "ipam": ipam}));
        for (stage, is_reached) in STAGES {
            let mut child = add_in_the_background(&lab, &conf);
            while !is_reached(&lab) && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            assert!(is_reached(&lab), "it ended before {stage}");
            let _ = child.kill();
            child.wait().unwrap();
            client.del(&network, &pod, LIMIT).await.unwrap();
            assert!(!run("ip", &["link"]).contains("veth"), "{stage}");
            let rules = run("iptables-save", &["-t", "nat"]);
            assert!(!rules.contains("10.213.7"), "{stage}: {rules}");
            let held = lab.held();
            assert!(
                held.iter().all(|(name, _)| !name.starts_with("10.")),
                "{stage}: {held:?}"
            );
            let _ = Command::new("ip")
                .args(["link", "delete", "test0"])
                .output();
        }
    })
    .await;
}

fn add_in_the_background(lab: &Lab, conf: &str) -> std::process::Child {
    let dir = lab.plugins(Side::Bundled);
    let mut child = Command::new(dir.join("bridge"))
        .env("CNI_PATH", &dir)
        .envs([ADD[0], ADD[1], ("CNI_NETNS", "/run/netns/pod"), ADD[3]])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(conf.as_bytes()).unwrap();
    child
}
