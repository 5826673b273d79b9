//! What the plugins of a chain are told, in which order, and what a failure undoes.

use std::path::PathBuf;

use corten_cni::{Command, Error};
use serde_json::json;

use crate::lab::{LONG, Lab, SHORT, attachment, list, list_of};

fn three() -> Lab {
    Lab::new()
        .well_behaved("a")
        .well_behaved("b")
        .well_behaved("ports")
}

#[tokio::test]
async fn add_runs_forward_and_del_backward() {
    let lab = three();
    let (network, attached) = (list(&["a", "b", "ports"]), attachment("c1"));
    let result = lab.client.add(&network, &attached, LONG).await.unwrap();
    assert_eq!(lab.order(), ["ADD a", "ADD b", "ADD ports"]);
    assert_eq!(
        result.addresses("eth0").next().unwrap().to_string(),
        "10.9.0.2/24"
    );
    lab.client.del(&network, &attached, LONG).await.unwrap();
    assert_eq!(lab.order(), ["DEL ports", "DEL b", "DEL a"]);
}

#[tokio::test]
async fn each_is_told_what_came_before() {
    let lab = three();
    let (network, attached) = (list(&["a", "b", "ports"]), attachment("c1"));
    lab.client.add(&network, &attached, LONG).await.unwrap();
    assert_eq!(lab.stdin("a", "ADD").get("prevResult"), None);
    assert_eq!(lab.stdin("b", "ADD")["prevResult"]["from"], "a");
    assert_eq!(lab.stdin("ports", "ADD")["prevResult"]["from"], "b");
    lab.client.del(&network, &attached, LONG).await.unwrap();
    for plugin in ["a", "b", "ports"] {
        assert_eq!(
            lab.stdin(plugin, "DEL")["prevResult"]["from"],
            "ports",
            "the last result"
        );
    }
}

#[tokio::test]
async fn capabilities_reach_those_who_declare_them() {
    let lab = three();
    let (network, attached) = (list(&["a", "ports"]), attachment("c1"));
    lab.client.add(&network, &attached, LONG).await.unwrap();
    lab.client.del(&network, &attached, LONG).await.unwrap();
    for command in ["ADD", "DEL"] {
        let ports = &lab.stdin("ports", command)["runtimeConfig"];
        assert_eq!(ports, &json!({"portMappings": [{"hostPort": 1}]}));
        assert_eq!(lab.stdin("a", command).get("runtimeConfig"), None);
    }
}

#[tokio::test]
async fn the_environment_is_the_specifications() {
    let lab = three();
    lab.client
        .add(&list(&["a"]), &attachment("c1"), LONG)
        .await
        .unwrap();
    let path = format!("{0}/nothing-here:{0}/bin", lab.path().display());
    let expected = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1"),
        ("CNI_PATH", &path),
    ];
    for (key, value) in expected {
        assert_eq!(lab.env("a", "ADD", key).as_deref(), Some(value), "{key}");
    }
}

#[tokio::test]
async fn a_chain_before_0_4_has_no_previous_result_on_del() {
    let lab = three();
    let (network, attached) = (list_of("0.3.1", &["a"]), attachment("c1"));
    let result = lab.client.add(&network, &attached, LONG).await.unwrap();
    assert!(
        result.json().contains(r#""version":"4""#),
        "turned into 0.3.1: {}",
        result.json()
    );
    lab.client.del(&network, &attached, LONG).await.unwrap();
    assert_eq!(lab.stdin("a", "DEL").get("prevResult"), None);
}

#[tokio::test]
async fn a_failure_undoes_the_whole_chain() {
    let lab = three().plugin(
        "fails",
        r#"[ $CNI_COMMAND = DEL ] || { echo broken >&2; exit 1; }"#,
    );
    let (network, attached) = (list(&["a", "fails", "b"]), attachment("c1"));
    let error = lab.client.add(&network, &attached, LONG).await.unwrap_err();
    assert!(
        matches!(error, Error::PluginExited { .. }),
        "nothing is left: {error}"
    );
    assert_eq!(
        lab.order(),
        ["ADD a", "ADD fails", "DEL b", "DEL fails", "DEL a"]
    );
    assert!(!lab.cache_file("c1").exists());
}

#[tokio::test]
async fn a_failed_undoing_goes_on_and_tells_both() {
    let lab = three().plugin("fails", r#"echo "no $CNI_COMMAND" >&2; exit 1"#);
    let (network, attached) = (list(&["a", "fails"]), attachment("c1"));
    let error = lab.client.add(&network, &attached, LONG).await.unwrap_err();
    assert_eq!(lab.order(), ["ADD a", "ADD fails", "DEL fails", "DEL a"]);
    assert!(error.to_string().contains("no DEL"), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("no ADD"), "{source}");
}

#[tokio::test]
async fn a_hang_leaves_time_to_undo() {
    let lab = three().plugin("hangs", "[ $CNI_COMMAND = DEL ] || sleep 1000");
    let (network, attached) = (list(&["a", "hangs"]), attachment("c1"));
    let limit = std::time::Duration::from_secs(3);
    let error = lab
        .client
        .add(&network, &attached, limit)
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(lab.order(), ["ADD a", "ADD hangs", "DEL hangs", "DEL a"]);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_undoes_the_add() {
    let lab = three();
    std::fs::write(lab.path().join("cache"), "a file in the way").unwrap();
    let error = lab
        .client
        .add(&list(&["a"]), &attachment("c1"), LONG)
        .await
        .unwrap_err();
    assert_eq!(lab.order(), ["ADD a", "DEL a"]);
    assert!(matches!(error, Error::CacheIo { .. }), "{error}");
}

#[tokio::test]
async fn del_stops_at_a_failure_and_can_be_repeated() {
    let broken = r#"[ $CNI_COMMAND != DEL ] || [ -e "$notes/mended" ] || exit 1"#;
    let answer = r#"printf '{"ips":[]}'"#;
    let lab = three().plugin("breaks", &format!("{broken}\n{answer}"));
    let (network, attached) = (list(&["a", "breaks"]), attachment("c1"));
    lab.client.add(&network, &attached, LONG).await.unwrap();
    lab.order();
    lab.client.del(&network, &attached, LONG).await.unwrap_err();
    assert_eq!(lab.order(), ["DEL breaks"]);
    assert!(lab.cache_file("c1").exists(), "still to be undone");
    std::fs::write(lab.path().join("notes/mended"), "").unwrap();
    lab.client.del(&network, &attached, LONG).await.unwrap();
    assert_eq!(lab.order(), ["DEL breaks", "DEL a"]);
    assert!(!lab.cache_file("c1").exists());
}

#[tokio::test]
async fn an_unknown_container_needs_no_undoing() {
    let lab = three().plugin(
        "knows-nobody",
        r#"printf '{"code":3,"msg":"unknown"}'; exit 1"#,
    );
    lab.client
        .del(&list(&["a", "knows-nobody"]), &attachment("c1"), LONG)
        .await
        .unwrap();
    assert_eq!(lab.order(), ["DEL knows-nobody", "DEL a"]);
}

#[tokio::test]
async fn del_without_a_namespace_says_so() {
    let lab = three();
    let plain_file = lab.path().join("no-mount-any-more");
    std::fs::write(&plain_file, "").unwrap();
    for netns in [
        None,
        Some(PathBuf::from("/run/netns/never-was")),
        Some(plain_file),
    ] {
        let attached = corten_cni::Attachment {
            netns,
            ..attachment("c1")
        };
        lab.client
            .del(&list(&["a"]), &attached, LONG)
            .await
            .unwrap();
        assert_eq!(
            lab.env("a", "DEL", "CNI_NETNS").as_deref(),
            Some(""),
            "{attached:?}"
        );
    }
}

#[tokio::test]
async fn add_without_a_namespace_is_refused() {
    let lab = three();
    let attached = corten_cni::Attachment {
        netns: None,
        ..attachment("c1")
    };
    let error = lab
        .client
        .add(&list(&["a"]), &attached, LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::AttachmentInvalid { .. }), "{error}");
}

#[tokio::test]
async fn a_spoilt_cache_does_not_keep_del_from_its_work() {
    let lab = three();
    let (network, attached) = (list(&["a"]), attachment("c1"));
    lab.client.add(&network, &attached, LONG).await.unwrap();
    std::fs::write(lab.cache_file("c1"), "{").unwrap();
    lab.client.del(&network, &attached, LONG).await.unwrap();
    assert_eq!(lab.stdin("a", "DEL").get("prevResult"), None);
    assert!(!lab.cache_file("c1").exists());
}

#[tokio::test]
async fn check_tells_each_the_last_result() {
    let lab = three();
    let (network, attached) = (list(&["a", "b"]), attachment("c1"));
    lab.client.add(&network, &attached, LONG).await.unwrap();
    lab.order();
    lab.client.check(&network, &attached, LONG).await.unwrap();
    assert_eq!(lab.order(), ["CHECK a", "CHECK b"]);
    assert_eq!(lab.stdin("a", "CHECK")["prevResult"]["from"], "b");
}

#[tokio::test]
async fn check_is_refused_or_skipped_where_it_must_not_be_called() {
    let lab = three();
    let attached = attachment("c1");
    let old = lab
        .client
        .check(&list_of("0.3.1", &["a"]), &attached, LONG)
        .await
        .unwrap_err();
    assert!(
        matches!(
            old,
            Error::NotInVersion {
                command: Command::Check,
                ..
            }
        ),
        "{old}"
    );
    let text =
        r#"{"cniVersion":"1.0.0","name":"net","disableCheck":true,"plugins":[{"type":"a"}]}"#;
    let disabled = corten_cni::NetworkList::from_bytes(text.as_bytes()).unwrap();
    lab.client.check(&disabled, &attached, LONG).await.unwrap();
    assert_eq!(lab.order(), [""; 0]);
}

#[tokio::test]
async fn status_asks_from_1_1_on() {
    let lab = three().plugin(
        "not-ready",
        r#"printf '{"code":50,"msg":"no agent"}'; exit 1"#,
    );
    lab.client.status(&list(&["a", "b"]), LONG).await.unwrap();
    assert_eq!(lab.order(), ["STATUS a", "STATUS b"]);
    assert_eq!(lab.env("a", "STATUS", "CNI_CONTAINERID"), None);
    let error = lab
        .client
        .status(&list(&["a", "not-ready"]), LONG)
        .await
        .unwrap_err();
    assert_eq!(error.plugin_error().unwrap().code, 50);
    assert!(error.to_string().contains("add-on is not ready"), "{error}");
    lab.order();
    lab.client
        .status(&list_of("1.0.0", &["not-ready"]), LONG)
        .await
        .unwrap();
    assert_eq!(lab.order(), [""; 0]);
    let error = lab
        .client
        .status(&list_of("1.0.0", &["absent"]), SHORT)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PluginMissing { .. }), "{error}");
}

/// `a`, and a plugin with an IPAM plugin that both fail DEL until they are mended.
fn refusing(answer: &str) -> (Lab, corten_cni::NetworkList) {
    let failing = format!(r#"[ $CNI_COMMAND != DEL ] || {{ {answer}; exit 1; }}"#);
    let lab = three()
        .plugin("refuses", &failing)
        .plugin("ipam", r#"[ ! -e "$notes/ipam-broken" ] || exit 1"#);
    let text = serde_json::json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
        {"type": "a"}, {"type": "refuses", "ipam": {"type": "ipam"}},
    ]});
    let network = corten_cni::NetworkList::from_bytes(text.to_string().as_bytes());
    let network = network.expect("a list with a name and plugins is one");
    (lab, network)
}

#[tokio::test]
async fn del_apart_asks_everyone_and_the_ipam_plugin_of_who_fails() {
    let (lab, network) = refusing(r#"printf '{"code":999,"msg":"Chain does not exist"}'"#);
    let attached = attachment("c1");
    let error = lab.client.del_apart(&network, &attached, LONG).await;
    let error = error.unwrap_err();
    assert_eq!(lab.order(), ["DEL refuses", "DEL ipam", "DEL a"]);
    assert_eq!(lab.stdin("ipam", "DEL")["ipam"]["type"], "ipam");
    assert!(error.is_refusal(), "{error}");
}

#[tokio::test]
async fn an_address_that_is_kept_is_no_refusal() {
    let (lab, network) = refusing("true");
    std::fs::write(lab.path().join("notes/ipam-broken"), "").unwrap();
    let error = lab
        .client
        .del_apart(&network, &attachment("c1"), LONG)
        .await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::AddressKept { .. }), "{error}");
    assert!(!error.is_refusal());
}

#[tokio::test]
async fn who_asks_for_patience_does_not_refuse() {
    let (lab, network) = refusing(r#"printf '{"code":11,"msg":"later"}'"#);
    let error = lab
        .client
        .del_apart(&network, &attachment("c1"), LONG)
        .await;
    assert!(!error.unwrap_err().is_refusal());
}

#[tokio::test]
async fn what_is_forgotten_is_in_the_cache_no_more() {
    let (lab, network) = (three(), list(&["a"]));
    let attached = attachment("c1");
    lab.client.add(&network, &attached, LONG).await.unwrap();
    lab.client.forget(&network, &attached).await.unwrap();
    assert!(!lab.cache_file("c1").exists());
    assert_eq!(lab.order(), ["ADD a"]);
}
