//! Garbage: attachments that nobody wants any more.

use std::time::Duration;

use corten_cni::{Error, NetworkList, ValidAttachment};
use serde_json::json;

use crate::lab::{LONG, Lab, SHORT, attachment, list, list_of};

fn valid(ids: &[&str]) -> Vec<ValidAttachment> {
    let one = |id: &&str| ValidAttachment {
        container_id: (*id).into(),
        ifname: "eth0".into(),
    };
    ids.iter().map(one).collect()
}

#[tokio::test]
async fn what_is_not_valid_is_undone_with_what_made_it() {
    let lab = Lab::new().well_behaved("old").well_behaved("new");
    for id in ["c1", "c2"] {
        lab.client
            .add(&list(&["old"]), &attachment(id), LONG)
            .await
            .unwrap();
    }
    lab.order();
    lab.client
        .gc(&list(&["new"]), &valid(&["c1"]), LONG)
        .await
        .unwrap();
    assert_eq!(lab.order(), ["DEL old", "GC new"]);
    assert_eq!(
        lab.env("old", "DEL", "CNI_CONTAINERID").as_deref(),
        Some("c2")
    );
    assert!(lab.cache_file("c1").exists() && !lab.cache_file("c2").exists());
    let expected = json!([{"containerID": "c1", "ifname": "eth0"}]);
    assert_eq!(
        lab.stdin("new", "GC")["cni.dev/valid-attachments"],
        expected
    );
}

#[tokio::test]
async fn another_network_is_not_touched() {
    let lab = Lab::new().well_behaved("a");
    lab.client
        .add(&list(&["a"]), &attachment("c1"), LONG)
        .await
        .unwrap();
    lab.order();
    let text = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"a"}]}"#;
    let other = NetworkList::from_bytes(text.as_bytes()).unwrap();
    lab.client.gc(&other, &[], LONG).await.unwrap();
    assert_eq!(lab.order(), [""; 0]);
    assert!(lab.cache_file("c1").exists());
}

#[tokio::test]
async fn before_1_1_only_the_stale_are_undone() {
    let lab = Lab::new().well_behaved("a");
    let network = list_of("1.0.0", &["a"]);
    lab.client
        .add(&network, &attachment("c1"), LONG)
        .await
        .unwrap();
    lab.order();
    lab.client.gc(&network, &[], LONG).await.unwrap();
    assert_eq!(lab.order(), ["DEL a"]);
    assert!(lab.client.cached_attachments().await.unwrap().is_empty());
}

#[tokio::test]
async fn gc_goes_on_after_a_failure() {
    let lab = Lab::new().plugin("fails", "exit 1").well_behaved("a");
    let error = lab
        .client
        .gc(&list(&["fails", "fails", "a"]), &[], LONG)
        .await
        .unwrap_err();
    assert_eq!(lab.order(), ["GC fails", "GC fails", "GC a"]);
    assert!(
        matches!(&error, Error::Several { errors, .. } if errors.len() == 2),
        "{error}"
    );
}

#[tokio::test]
async fn a_list_may_forbid_gc() {
    let lab = Lab::new().well_behaved("a");
    lab.client
        .add(&list(&["a"]), &attachment("c1"), LONG)
        .await
        .unwrap();
    lab.order();
    let text = r#"{"cniVersion":"1.1.0","name":"net","disableGC":true,"plugins":[{"type":"a"}]}"#;
    lab.client
        .gc(
            &NetworkList::from_bytes(text.as_bytes()).unwrap(),
            &[],
            LONG,
        )
        .await
        .unwrap();
    assert_eq!(lab.order(), [""; 0]);
}

#[tokio::test]
async fn gc_waits_for_an_add_and_not_for_ever() {
    let until_told = r#"while [ ! -e "$notes/go" ]; do sleep 0.01; done; printf '{"ips":[]}'"#;
    let lab = Lab::new().plugin("takes-its-time", until_told);
    let (client, network) = (lab.client.clone(), list(&["takes-its-time"]));
    let add = tokio::spawn(async move { client.add(&network, &attachment("c1"), LONG).await });
    crate::lab::until(|| (!lab.note("order").is_empty()).then_some(())).await;
    let network = list(&["takes-its-time"]);
    let error = lab
        .client
        .gc(&network, &valid(&["c1"]), SHORT)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    std::fs::write(lab.path().join("notes/go"), "").unwrap();
    add.await.unwrap().unwrap();
    lab.client
        .gc(&network, &valid(&["c1"]), Duration::from_secs(60))
        .await
        .unwrap();
    assert!(lab.cache_file("c1").exists());
}

#[tokio::test]
async fn gc_takes_no_longer_than_it_may() {
    let hangs = r#"case $CNI_COMMAND in ADD) printf '{"ips":[]}';; DEL) sleep 1000;; esac"#;
    let lab = Lab::new().plugin("hangs-on-del", hangs);
    let network = list(&["hangs-on-del"]);
    for id in ["c1", "c2", "c3"] {
        lab.client
            .add(&network, &attachment(id), LONG)
            .await
            .unwrap();
    }
    lab.order();
    let error = lab
        .client
        .gc(&network, &[], Duration::from_secs(1))
        .await
        .unwrap_err();
    let Error::Several { errors, .. } = error else {
        panic!("{error}")
    };
    assert!(
        errors.len() == 4 && errors.iter().all(Error::is_timeout),
        "{errors:?}"
    );
    assert_eq!(
        lab.order(),
        ["DEL hangs-on-del"],
        "the rest had no time left"
    );
}
