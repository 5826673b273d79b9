//! What went wrong once: kernels and hosts that lack something, and calls that are repeated or come late
//! to nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::faults::{ADD, call};
use super::lab::{LIMIT, Lab, Side, in_own_namespaces};
use super::own_namespaces::run;
use super::{one_subnet, portmap, ports, two_families, with};
use serde_json::{Value, json};

/// A program `name` in `dir` that does what `script` says.
fn put_program(dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Where the test's own iptables(8) is.
fn programs() -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).next().unwrap()
}

fn addresses(lab: &Lab) -> Vec<(String, String)> {
    let mut all = lab.held();
    all.retain(|(name, _)| name.starts_with("10."));
    all
}

fn masquerading() -> Value {
    with(one_subnet(), &json!({"isGateway": true, "ipMasq": true}))
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_legacy_rules_are_gone_or_the_del_fails() {
    let name = "mends::root_legacy_rules_are_gone_or_the_del_fails";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network("1.0.0", &masquerading(), &[portmap()]);
        let pod = lab.pod("pod", &ports());
        let client = lab.client(Side::Bundled);
        client.add(&network, &pod, LIMIT).await.unwrap();
        // The next call finds an iptables that cannot work.
        let own = programs().join("iptables-legacy-broken");
        put_program(
            &programs(),
            "iptables-legacy-broken",
            "echo 'Another app is currently holding the xtables lock.' >&2; exit 4",
        );
        let works = programs().join("iptables");
        let target = fs::read_link(&works).unwrap();
        fs::remove_file(&works).unwrap();
        std::os::unix::fs::symlink(&own, &works).unwrap();
        let error = client.del(&network, &pod, LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("xtables lock"), "{error}");
        fs::remove_file(&works).unwrap();
        std::os::unix::fs::symlink(target, &works).unwrap();
        client.del(&network, &pod, LIMIT).await.unwrap();
        let rules = run("iptables-save", &["-t", "nat"]);
        assert!(
            !rules.contains("CNI-DN-") && !rules.contains("10.213.7.2"),
            "{rules}"
        );
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_legacy_iptables_that_does_not_say_what_it_is_fails_the_del() {
    let name = "mends::root_legacy_iptables_that_does_not_say_what_it_is_fails_the_del";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network("1.0.0", &masquerading(), &[]);
        let pod = lab.pod("pod", &json!({}));
        let client = lab.client(Side::Bundled);
        client.add(&network, &pod, LIMIT).await.unwrap();
        fs::remove_file(programs().join("iptables")).unwrap();
        put_program(
            &programs(),
            "iptables",
            "echo 'no mode is chosen' >&2; exit 1",
        );
        let error = client.del(&network, &pod, LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("no mode is chosen"), "{error}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_legacy_host_without_ip6tables() {
    let name = "mends::root_legacy_host_without_ip6tables";
    in_own_namespaces(name, |lab| async move {
        let only = lab.dir.path().join("programs");
        fs::create_dir(&only).unwrap();
        std::os::unix::fs::symlink("/usr/sbin/xtables-legacy-multi", only.join("iptables")).unwrap();
        let add = |id: &'static str, subnet: &str| {
            let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "test0", "ipMasq": true,
                "ipam": {"type": "host-local", "dataDir": lab.ipam(), "subnet": subnet}});
            let netns = format!("/run/netns/{id}");
            let path = only.to_str().unwrap();
            let asked = |command| {
                let env = [("CNI_COMMAND", command), ("CNI_CONTAINERID", id), ("CNI_NETNS", netns.as_str()), ADD[3], ("PATH", path)];
                call(&lab, Side::Bundled, "bridge", &env, &conf.to_string())
            };
            (asked("ADD"), asked("DEL"))
        };
        lab.pod("four", &json!({}));
        let ((added, said), (deleted, told)) = add("four", "10.213.7.0/24");
        assert!(added && deleted, "{said} {told}");
        lab.pod("six", &json!({}));
        let ((added, said), (deleted, told)) = add("six", "fd00:213:7::/64");
        assert!(!added && said["msg"].as_str().unwrap().contains("no ip6tables"), "{said}");
        assert!(deleted, "{told}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_an_address_file_without_an_owner_is_free() {
    let name = "mends::root_an_address_file_without_an_owner_is_free";
    in_own_namespaces(name, |lab| async move {
        let conf = json!({"cniVersion": "1.1.0", "name": "pods", "type": "host-local",
            "ipam": {"type": "host-local", "dataDir": lab.ipam(), "subnet": "10.213.7.0/30"}});
        let dir = lab.ipam().join("pods");
        fs::create_dir_all(&dir).unwrap();
        lab.pod("pod", &json!({}));
        // Of a call that was killed between making the file and writing to it.
        fs::write(dir.join("10.213.7.2"), "").unwrap();
        let (ok, said) = call(&lab, Side::Bundled, "host-local", &ADD, &conf.to_string());
        assert!(ok, "{said}");
        assert_eq!(
            addresses(&lab),
            [("10.213.7.2".to_owned(), "pod\r\neth0".to_owned())]
        );
        let netns = ("CNI_NETNS", "/run/netns/pod");
        let del = [("CNI_COMMAND", "DEL"), ADD[1], netns, ADD[3]];
        assert!(call(&lab, Side::Reference, "host-local", &del, &conf.to_string()).0);
        assert_eq!(addresses(&lab), []);
        fs::write(dir.join("10.213.7.2"), "").unwrap();
        let gc = with(conf, &json!({"cni.dev/valid-attachments": []})).to_string();
        assert!(
            call(
                &lab,
                Side::Bundled,
                "host-local",
                &[("CNI_COMMAND", "GC")],
                &gc
            )
            .0
        );
        assert_eq!(addresses(&lab), []);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_an_add_that_fails_late_keeps_no_address() {
    let name = "mends::root_an_add_that_fails_late_keeps_no_address";
    in_own_namespaces(name, |lab| async move {
        lab.pod("pod", &json!({}));
        // The last step looks at the bridge once more.
        let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "test0",
            "ipam": {"type": "ends-it", "dataDir": lab.ipam(), "subnet": "10.213.7.0/24"}});
        let reference = lab.plugins(Side::Reference).join("host-local");
        let script = format!("{} || exit 1\n[ $CNI_COMMAND != ADD ] || ip link delete test0", reference.display());
        put_program(&lab.plugins(Side::Bundled), "ends-it", &script);
        let env = [ADD[0], ADD[1], ("CNI_NETNS", "/run/netns/pod"), ADD[3]];
        let (ok, said) = call(&lab, Side::Bundled, "bridge", &env, &conf.to_string());
        assert!(!ok && said["msg"].as_str().unwrap().contains("test0"), "{said}");
        assert_eq!(addresses(&lab), []);
    })
    .await;
}

/// The rules of a table of each way.
fn rules() -> Vec<String> {
    let mut all: Vec<_> = run("iptables-save", &["-t", "nat"])
        .lines()
        .filter(|line| line.starts_with("-A"))
        .map(str::to_owned)
        .collect();
    let nft = run("nft", &["list", "ruleset", "ip"]);
    all.extend(
        nft.lines()
            .filter(|line| line.contains("comment"))
            .map(|line| line.trim().to_owned()),
    );
    all.sort();
    all
}

async fn repeats(lab: &Lab, backend: &str) {
    let more = [with(portmap(), &json!({"backend": backend}))];
    let network = lab.network("1.0.0", &one_subnet(), &more);
    let pod = lab.pod("pod", &ports());
    let client = lab.client(Side::Bundled);
    let result = client.add(&network, &pod, LIMIT).await.unwrap();
    let before = rules();
    let again = |ports: &Value| {
        let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "portmap", "snat": true, "backend": backend,
            "runtimeConfig": ports, "prevResult": serde_json::from_str::<Value>(result.json()).unwrap()});
        let env = [ADD[0], ADD[1], ("CNI_NETNS", "/run/netns/pod"), ADD[3]];
        let (ok, said) = call(lab, Side::Bundled, "portmap", &env, &conf.to_string());
        assert!(ok, "{said}");
    };
    again(&ports());
    assert_eq!(rules(), before, "the same once more");
    again(&json!({"portMappings": [{"hostPort": 19999, "containerPort": 80, "protocol": "tcp"}]}));
    let after = rules().join("\n");
    assert!(
        after.contains("19999") && !after.contains("18080"),
        "{after}"
    );
    client.del(&network, &pod, LIMIT).await.unwrap();
    run("ip", &["netns", "delete", "pod"]);
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_an_add_once_more_makes_no_second_rules() {
    let name = "mends::root_an_add_once_more_makes_no_second_rules";
    in_own_namespaces(name, |lab| async move {
        for backend in ["iptables", "nftables"] {
            repeats(&lab, backend).await;
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_legacy_add_once_more_makes_no_second_rules() {
    let name = "mends::root_legacy_add_once_more_makes_no_second_rules";
    in_own_namespaces(name, |lab| async move { repeats(&lab, "iptables").await }).await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_the_hosts_own_namespace_is_no_pods() {
    let name = "mends::root_the_hosts_own_namespace_is_no_pods";
    in_own_namespaces(name, |lab| async move {
        run("ip", &["link", "add", "eth0", "type", "bridge"]);
        let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "test0",
            "ipam": {"type": "host-local", "dataDir": lab.ipam(), "subnet": "10.213.7.0/24"}});
        for command in ["ADD", "DEL", "CHECK"] {
            let env = [("CNI_COMMAND", command), ADD[1], ("CNI_NETNS", "/proc/self/ns/net"), ADD[3]];
            let (ok, said) = call(&lab, Side::Bundled, "bridge", &env, &conf.to_string());
            assert!(!ok && said["code"] == 8, "{command}: {said}");
        }
        let links = run("ip", &["link"]);
        assert!(links.contains("eth0") && !links.contains("test0"), "{links}");
        assert_eq!(lab.held(), []);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_an_ipam_plugin_is_a_name() {
    let name = "mends::root_an_ipam_plugin_is_a_name";
    in_own_namespaces(name, |lab| async move {
        lab.pod("pod", &json!({}));
        let mark = lab.dir.path().join("ran");
        put_program(lab.dir.path(), "outside", &format!("touch {}", mark.display()));
        lab.plugins(Side::Bundled);
        let conf = json!({"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "test0", "ipam": {"type": "../outside"}});
        let env = [ADD[0], ADD[1], ("CNI_NETNS", "/run/netns/pod"), ADD[3]];
        let (ok, said) = call(&lab, Side::Bundled, "bridge", &env, &conf.to_string());
        assert!(!ok && said["msg"].as_str().unwrap().contains("../outside"), "{said}");
        assert!(!mark.exists());
    })
    .await;
}

/// The rules about an address go before it may be another pod's.
#[tokio::test]
#[ignore = "needs root"]
async fn root_legacy_address_is_kept_while_rules_are_about_it() {
    let name = "mends::root_legacy_address_is_kept_while_rules_are_about_it";
    in_own_namespaces(name, |lab| async move {
        let network = lab.network(
            "1.0.0",
            &with(two_families(), &json!({"ipMasq": true})),
            &[],
        );
        let pod = lab.pod("pod", &json!({}));
        let client = lab.client(Side::Bundled);
        client.add(&network, &pod, LIMIT).await.unwrap();
        let works = programs().join("ip6tables");
        fs::remove_file(&works).unwrap();
        put_program(
            &programs(),
            "ip6tables",
            "echo 'the table is busy' >&2; exit 4",
        );
        client.del(&network, &pod, LIMIT).await.unwrap_err();
        assert_eq!(addresses(&lab).len(), 1);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_the_policy_of_a_chain_stays() {
    in_own_namespaces("mends::root_the_policy_of_a_chain_stays", |lab| async move {
        let network = lab.network("1.0.0", &masquerading(), &[portmap()]);
        let client = lab.client(Side::Bundled);
        client
            .add(&network, &lab.pod("first", &ports()), LIMIT)
            .await
            .unwrap();
        let chain = "ip nat POSTROUTING { policy drop; }";
        run("nft", &["add", "chain", chain]);
        let policy = || run("nft", &["list", "chain", "ip nat POSTROUTING"]);
        assert!(policy().contains("policy drop"), "{}", policy());
        let second = json!({"portMappings": [{"hostPort": 8181, "containerPort": 81, "protocol": "tcp"}]});
        client
            .add(&network, &lab.pod("second", &second), LIMIT)
            .await
            .unwrap();
        assert!(policy().contains("policy drop"), "{}", policy());
    })
    .await;
}
