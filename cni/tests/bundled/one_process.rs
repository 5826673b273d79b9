//! A list of bundled plugins is one process, and what the caller sees is the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lab::{LIMIT, Lab, PROGRAM, Side, in_own_namespaces};
use super::own_namespaces::run;
use super::{one_subnet, portmap, ports, two_families, with};
use corten_cni::{Bundle, Client, Error, ValidAttachment};
use serde_json::json;

/// A client whose bundled program notes each run; `more` is searched too.
fn noting(lab: &Lab, more: Vec<PathBuf>) -> Client {
    let program = lab.dir.path().join("noting");
    let calls = lab.dir.path().join("calls");
    let script = format!(
        "#!/bin/sh\necho \"$CNI_COMMAND $*\" >>{}\nexec {PROGRAM} \"$@\"\n",
        calls.display()
    );
    put(&program, &script);
    let bundle = Bundle::lay_out(program, lab.dir.path().join("links")).unwrap();
    let mut bin_dirs = more;
    bin_dirs.push(bundle.directory().to_owned());
    Client::new(bin_dirs, lab.dir.path().join("cni")).with_bundle(bundle)
}

fn put(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What was run since the last time.
fn calls(lab: &Lab) -> Vec<String> {
    let path = lab.dir.path().join("calls");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "needs root and the reference CNI plugins"]
async fn root_each_command_is_one_process() {
    let name = "one_process::root_each_command_is_one_process";
    in_own_namespaces(name, |lab| async move {
        let bridge = with(two_families(), &json!({"isGateway": true, "ipMasq": true}));
        let network = lab.network("1.1.0", &bridge, &[portmap()]);
        let pod = lab.pod("pod", &ports());
        let client = noting(&lab, vec![]);
        client.status(&network, LIMIT).await.unwrap();
        client.add(&network, &pod, LIMIT).await.unwrap();
        client.check(&network, &pod, LIMIT).await.unwrap();
        lab.client(Side::Reference)
            .check(&network, &pod, LIMIT)
            .await
            .unwrap();
        let (container_id, ifname) = (pod.container_id.clone(), pod.ifname.clone());
        let valid = ValidAttachment {
            container_id,
            ifname,
        };
        client.gc(&network, &[valid], LIMIT).await.unwrap();
        client.check(&network, &pod, LIMIT).await.unwrap();
        client.gc(&network, &[], LIMIT).await.unwrap();
        let said = [
            "STATUS chain",
            "ADD chain",
            "CHECK chain",
            "GC chain",
            "CHECK chain",
            "DEL chain",
            "GC chain",
        ];
        assert_eq!(calls(&lab), said);
        assert!(lab.held().iter().all(|(name, _)| name.starts_with("l")));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_a_plugin_of_others_in_the_list_makes_each_run_alone() {
    let name = "one_process::root_a_plugin_of_others_in_the_list_makes_each_run_alone";
    in_own_namespaces(name, |lab| async move {
        let others = lab.dir.path().join("others");
        fs::create_dir(&others).unwrap();
        let passes =
            "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\nsed 's/.*\"prevResult\"://; s/}$//'\n";
        put(&others.join("passes"), passes);
        let network = lab.network("1.0.0", &one_subnet(), &[json!({"type": "passes"})]);
        let pod = lab.pod("pod", &json!({}));
        let client = lab.client(Side::Chain);
        let missing = client.add(&network, &pod, LIMIT).await.unwrap_err();
        assert!(matches!(missing, Error::PluginMissing { .. }), "{missing}");
        let bundle = Bundle::lay_out(PROGRAM.into(), lab.plugins(Side::Chain)).unwrap();
        let dirs = vec![others.clone(), bundle.directory().to_owned()];
        let client = Client::new(dirs, lab.dir.path().join("cni")).with_bundle(bundle);
        client.add(&network, &pod, LIMIT).await.unwrap();
        client.del(&network, &pod, LIMIT).await.unwrap();
        // A node's own plugin goes before the bundled one of its name, where it is found first.
        put(
            &others.join("bridge"),
            "#!/bin/sh\necho '{\"code\": 100, \"msg\": \"the node has its own\"}'\nexit 1\n",
        );
        let network = lab.network("1.0.0", &one_subnet(), &[]);
        let error = client.add(&network, &pod, LIMIT).await.unwrap_err();
        assert!(
            error.to_string().contains("the node has its own"),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_what_fails_is_told_by_name_and_undone() {
    let name = "one_process::root_what_fails_is_told_by_name_and_undone";
    in_own_namespaces(name, |lab| async move {
        let bad = with(portmap(), &json!({"markMasqBit": 99}));
        let network = lab.network("1.0.0", &one_subnet(), &[bad]);
        let pod = lab.pod("pod", &ports());
        let each = lab.client(Side::Bundled);
        let client = lab.client(Side::Chain);
        let (one, other) = (
            client.add(&network, &pod, LIMIT).await.unwrap_err(),
            each.add(&network, &pod, LIMIT).await.unwrap_err(),
        );
        // Undoing it asks every plugin, and portmap cannot read its configuration then either.
        assert_eq!(one.to_string(), other.to_string());
        let Error::RollbackFailed { source, rollback } = one else {
            panic!("{one}");
        };
        assert!(
            matches!(&*source, Error::PluginFailed { plugin, .. } if plugin == "portmap"),
            "{source}"
        );
        assert_eq!(rollback.len(), 1);
        assert!(!run("ip", &["link"]).contains("veth"));
        assert!(lab.held().iter().all(|(name, _)| name.starts_with("l")));
        let wrong = lab.network("1.0.0", &json!({"ipam": {"subnet": "10.1.2.3/24"}}), &[]);
        let error = client.add(&wrong, &pod, LIMIT).await.unwrap_err();
        let also = each.add(&wrong, &pod, LIMIT).await.unwrap_err();
        assert_eq!(error.to_string(), also.to_string());
        assert!(error.plugin_error().is_some(), "{error}");
    })
    .await;
}

/// Waits for the kernel to be done.
async fn until_no_pair() {
    let deadline = Instant::now() + Duration::from_secs(20);
    while run("ip", &["link"]).contains("veth") {
        assert!(Instant::now() < deadline, "{}", run("ip", &["link"]));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
#[ignore = "needs root"]
async fn root_a_namespace_that_ends_takes_its_links_along() {
    let name = "one_process::root_a_namespace_that_ends_takes_its_links_along";
    in_own_namespaces(name, |lab| async move {
        let bridge = with(one_subnet(), &json!({"isGateway": true, "ipMasq": true}));
        let network = lab.network("1.0.0", &bridge, &[portmap()]);
        let client = noting(&lab, vec![]);
        for stays in [false, true] {
            let pod = lab.pod("pod", &ports());
            client.add(&network, &pod, LIMIT).await.unwrap();
            client.del_at_end(&network, &pod, LIMIT).await.unwrap();
            let links = run("ip", &["link"]);
            let pair = links.lines().find(|line| line.contains("veth")).unwrap();
            assert!(pair.contains("state DOWN"), "{links}");
            assert!(lab.held().iter().all(|(name, _)| name.starts_with("l")));
            let rules = run("iptables-save", &["-t", "nat"]);
            assert!(
                !rules.contains("CNI-DN-") && !rules.contains("10.213.7"),
                "{rules}"
            );
            // Again is as good.
            client.del_at_end(&network, &pod, LIMIT).await.unwrap();
            if !stays {
                run("ip", &["netns", "delete", "pod"]);
            }
            until_no_pair().await;
            let swept = calls(&lab).iter().any(|call| call.contains("sweep veth"));
            assert!(
                stays || !swept,
                "what the namespace took is not deleted again"
            );
        }
    })
    .await;
}
