use super::*;
use crate::engine::looks::Looks;
use std::time::Duration;

struct Node {
    root: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for dir in ["static", "dynamic"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        Self { root }
    }

    fn dirs(&self) -> Vec<PathBuf> {
        ["absent", "static", "dynamic"]
            .map(|dir| self.root.path().join(dir))
            .into()
    }

    fn put(&self, file: &str, text: &str) {
        fs::write(self.root.path().join(file), text).unwrap();
    }

    /// One device, `0`, whose only edit is this.
    fn vendor(&self, file: &str, edit: &str) {
        self.put(file, &format!(
            r#"{{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","devices":[{{"name":"0","containerEdits":{{{edit}}}}}],"containerEdits":{{"env":["ALL={file}"]}}}}"#
        ));
    }

    async fn edits(&self, names: &[&str]) -> Result<Vec<ContainerEdits>> {
        let config = ContainerConfig {
            cdi_devices: names.iter().map(|&name| name.to_owned()).collect(),
            ..ContainerConfig::default()
        };
        let dirs = self.dirs();
        let limit = Duration::from_secs(20);
        Looks::default()
            .within(limit, move |looker| edits(&config, &dirs, looker), Ok)
            .await
    }

    async fn env(&self, names: &[&str]) -> Vec<String> {
        let edits = self.edits(names).await.unwrap();
        edits.into_iter().flat_map(|edits| edits.env).collect()
    }
}

const YAML: &str = "\
cdiVersion: 1.0.0
kind: vendor.com/gpu
devices:
- name: 'one'
  containerEdits:
    env: [ONE=1]
- name: two
  containerEdits:
    env:
    - TWO=2
containerEdits:
  env: [BOTH=1]
";

#[tokio::test]
async fn what_a_file_says_for_all_of_its_devices_comes_once_and_first() {
    let node = Node::new();
    node.put("static/gpu.yaml", YAML);
    node.put("static/notes.txt", "nothing of CDI's");
    let names = ["vendor.com/gpu=two", "vendor.com/gpu=one"];
    assert_eq!(node.env(&names).await, ["BOTH=1", "TWO=2", "ONE=1"]);
    assert!(node.edits(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_later_directory_counts_and_two_files_of_one_are_refused() {
    let node = Node::new();
    node.vendor("static/a.json", r#""env":["FROM=static"]"#);
    node.vendor("dynamic/a.json", r#""env":["FROM=dynamic"]"#);
    assert_eq!(
        node.env(&["vendor.com/gpu=0"]).await,
        ["ALL=dynamic/a.json", "FROM=dynamic"]
    );
    node.vendor("dynamic/b.json", r#""env":["FROM=other"]"#);
    let error = node.edits(&["vendor.com/gpu=0"]).await.unwrap_err();
    let told = error.chain();
    assert!(
        told.contains("dynamic/a.json") && told.contains("dynamic/b.json"),
        "{told}"
    );
}

#[tokio::test]
async fn who_asks_for_what_is_not_there_hears_what_is() {
    let node = Node::new();
    node.vendor("static/a.json", r#""env":["A=1"]"#);
    node.put("dynamic/broken.yaml", "cdiVersion: [");
    let error = node.edits(&["vendor.com/gpu=7"]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let told = error.chain();
    for word in [
        "vendor.com/gpu=7",
        "a.json has 0",
        "unusable",
        "broken.yaml",
    ] {
        assert!(told.contains(word), "{told}");
    }
    assert_eq!(
        node.env(&["vendor.com/gpu=0"]).await.len(),
        2,
        "others can be used"
    );
}

#[tokio::test]
async fn what_a_file_leaves_out_of_a_device_is_the_nodes() {
    let node = Node::new();
    node.vendor("static/a.json", r#""deviceNodes":[{"path":"/dev/other","hostPath":"/dev/null"},{"path":"/dev/x","type":"c","major":9,"minor":8}]"#);
    let edits = node.edits(&["vendor.com/gpu=0"]).await.unwrap();
    let nodes = &edits[1].device_nodes;
    assert_eq!(
        (nodes[0].kind.as_deref(), nodes[0].major, nodes[0].minor),
        (Some("c"), Some(1), Some(3))
    );
    assert_eq!(
        (nodes[1].major, nodes[1].minor),
        (Some(9), Some(8)),
        "it was not looked at"
    );
    node.vendor(
        "static/a.json",
        r#""deviceNodes":[{"path":"/dev/null","type":"b"}]"#,
    );
    let told = node.edits(&["vendor.com/gpu=0"]).await.unwrap_err().chain();
    assert!(
        told.contains("a.json") && told.contains("said to be b"),
        "{told}"
    );
}
