use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::version::Version;
use serde_json::{Value, json};

const CONF: &str = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"}]}"#;
const RESULT: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/a"}],"ips":[{"address":"10.1.0.5/16","interface":0}]}"#;

/// A file as libcni writes it for the same attachment, its keys in Go's order.
const LIBCNI: &str = concat!(
    r#"{"kind":"cniCacheV1","containerId":"c0ffee","#,
    r#""config":"eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoicG9kcyIsInBsdWdpbnMiOlt7InR5cGUiOiJicmlkZ2UifV19","#,
    r#""ifName":"eth0","networkName":"pods","netns":"/run/netns/a","#,
    r#""cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","web"]],"#,
    r#""capabilityArgs":{"portMappings":[{"containerPort":80,"hostPort":8080}]},"#,
    r#""result":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/a"}],"ips":[{"address":"10.1.0.5/16","interface":0}]}}"#,
);

struct Fixture {
    dir: tempfile::TempDir,
    cache: Cache,
    list: NetworkList,
    attachment: Attachment,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
    Fixture {
        cache: Cache::new(dir.path().join("cni")),
        dir,
        list: NetworkList::from_bytes(CONF.as_bytes()).unwrap(),
        attachment: Attachment {
            container_id: "c0ffee".into(),
            netns: Some("/run/netns/a".into()),
            ifname: "eth0".into(),
            args: vec![pair("IgnoreUnknown", "1"), pair("K8S_POD_NAME", "web")],
            capabilities: Capabilities::from([("portMappings".to_owned(), ports)]),
        },
    }
}

impl Fixture {
    fn file(&self) -> PathBuf {
        self.dir.path().join("cni/results/pods-c0ffee-eth0")
    }

    fn write(&self) {
        let result = AddResult::parse(RESULT.as_bytes(), Version::V1_0_0).unwrap();
        self.cache
            .write(&self.list, &self.attachment, &result)
            .unwrap();
    }

    fn put(&self, text: &str) {
        make_directory(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), text).unwrap();
    }
}

#[test]
fn the_file_is_libcnis_byte_for_byte() {
    let it = fixture();
    it.write();
    assert_eq!(fs::read_to_string(it.file()).unwrap(), LIBCNI);
    assert_eq!(
        fs::metadata(it.file()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn what_libcni_wrote_is_read() {
    let it = fixture();
    it.put(LIBCNI);
    let result = it.cache.result(&it.list, &it.attachment).unwrap().unwrap();
    assert_eq!(
        result.addresses("eth0").next().unwrap().to_string(),
        "10.1.0.5/16"
    );
    let all = it.cache.attachments().unwrap();
    let known = CachedAttachment {
        network: "pods".into(),
        config: CONF.into(),
        attachment: it.attachment.clone(),
    };
    assert_eq!(all, [known]);
}

#[test]
fn what_is_empty_is_left_out() {
    let mut it = fixture();
    it.attachment.args.clear();
    it.attachment.capabilities.clear();
    it.attachment.netns = None;
    it.write();
    let value: Value = serde_json::from_slice(&fs::read(it.file()).unwrap()).unwrap();
    let keys: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert!(
        !keys
            .iter()
            .any(|key| ["netns", "cniArgs", "capabilityArgs"].contains(key)),
        "{keys:?}"
    );
}

#[test]
fn the_result_comes_in_the_version_asked_for() {
    let it = fixture();
    it.put(LIBCNI);
    let older = CONF.replace("1.0.0", "0.4.0");
    let list = NetworkList::from_bytes(older.as_bytes()).unwrap();
    let result = it.cache.result(&list, &it.attachment).unwrap().unwrap();
    let value: Value = serde_json::from_str(result.json()).unwrap();
    assert_eq!(
        (&value["cniVersion"], &value["ips"][0]["version"]),
        (&json!("0.4.0"), &json!("4"))
    );
}

#[test]
fn removed_twice_is_removed() {
    let it = fixture();
    it.write();
    it.cache.remove(&it.list, &it.attachment).unwrap();
    it.cache.remove(&it.list, &it.attachment).unwrap();
    assert!(!it.file().exists());
    assert!(it.cache.result(&it.list, &it.attachment).unwrap().is_none());
}

#[test]
fn a_foreign_file_is_an_error_for_one_and_passed_over_by_all() {
    let it = fixture();
    for text in ["", "{", r#"{"kind":"other"}"#, r#"{"cniVersion":"1.0.0"}"#] {
        it.put(text);
        let error = it.cache.result(&it.list, &it.attachment).unwrap_err();
        assert!(
            matches!(error, Error::CacheInvalid { .. }),
            "{text:?}: {error:?}"
        );
        assert!(it.cache.attachments().unwrap().is_empty());
    }
}

#[test]
fn nothing_but_results_is_left_in_the_directories() {
    let it = fixture();
    it.write();
    let names = |path: &Path| -> Vec<_> {
        fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect()
    };
    assert_eq!(names(&it.dir.path().join("cni")), ["results"]);
    assert_eq!(
        names(&it.dir.path().join("cni/results")),
        ["pods-c0ffee-eth0"]
    );
}
