//! A directory of scripts that are plugins, a client that finds them, and what they noted down.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_cni::{Attachment, Capabilities, Client, NetworkList};
use serde_json::{Value, json};

/// Nothing that works is ever near it.
pub const LONG: Duration = Duration::from_secs(60);
/// For what must run into it.
pub const SHORT: Duration = Duration::from_millis(300);

/// Notes the command, the environment and stdin, then answers ADD with one address.
const WELL_BEHAVED: &str = r#"
if [ "$CNI_COMMAND" = ADD ]; then
    printf '{"cniVersion":"1.1.0","interfaces":[{"name":"%s","sandbox":"%s"}],' "$CNI_IFNAME" "$CNI_NETNS"
    printf '"ips":[{"address":"10.9.0.2/24","interface":0}],"from":"%s"}' "$me"
fi
"#;

/// What every script begins with.
const NOTES: &str = r#"#!/bin/sh
here=$(dirname "$0"); me=$(basename "$0"); notes=$here/../notes
echo "$CNI_COMMAND $me" >> "$notes/order"
cat > "$notes/$me.$CNI_COMMAND.stdin"
env | grep '^CNI_' > "$notes/$me.$CNI_COMMAND.env"
"#;

pub struct Lab {
    dir: tempfile::TempDir,
    pub client: Client,
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["bin", "notes"] {
            fs::create_dir(dir.path().join(name)).expect("a fresh directory takes another");
        }
        let bin_dirs = vec![dir.path().join("nothing-here"), dir.path().join("bin")];
        let client = Client::new(bin_dirs, dir.path().join("cache"));
        Self { dir, client }
    }

    /// A plugin that does its work.
    pub fn well_behaved(self, name: &str) -> Self {
        self.plugin(name, WELL_BEHAVED)
    }

    /// A plugin that runs `body` after it has taken its notes.
    pub fn plugin(self, name: &str, body: &str) -> Self {
        self.program(name, &format!("{NOTES}{body}"))
    }

    /// A plugin that is `text` and nothing else.
    pub fn program(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join("bin").join(name);
        fs::write(&path, text).expect("the directory is writable");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, executable).expect("the file is ours");
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn note(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join("notes").join(name)).unwrap_or_default()
    }

    /// "ADD a", "ADD b", … in the order of the runs, and forgets them.
    pub fn order(&self) -> Vec<String> {
        let lines = self.note("order").lines().map(str::to_owned).collect();
        let _ = fs::remove_file(self.dir.path().join("notes/order"));
        lines
    }

    pub fn stdin(&self, plugin: &str, command: &str) -> Value {
        let text = self.note(&format!("{plugin}.{command}.stdin"));
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{plugin} was given: {text}"))
    }

    pub fn env(&self, plugin: &str, command: &str, key: &str) -> Option<String> {
        let text = self.note(&format!("{plugin}.{command}.env"));
        let prefix = format!("{key}=");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .map(str::to_owned)
    }

    pub fn cache_file(&self, id: &str) -> PathBuf {
        self.dir
            .path()
            .join("cache/results")
            .join(format!("net-{id}-eth0"))
    }

    /// The pid that a script wrote to a note, once it is there.
    pub async fn pid(&self, note: &str) -> u32 {
        until(|| self.note(note).trim().parse().ok()).await
    }
}

/// A list of these plugins, of version 1.1.0.
pub fn list(plugins: &[&str]) -> NetworkList {
    list_of("1.1.0", plugins)
}

pub fn list_of(version: &str, plugins: &[&str]) -> NetworkList {
    let plugins: Vec<_> = plugins
        .iter()
        .map(|kind| json!({"type": kind, "capabilities": {"portMappings": *kind == "ports"}}))
        .collect();
    let list = json!({"cniVersion": version, "name": "net", "plugins": plugins});
    NetworkList::from_bytes(list.to_string().as_bytes()).expect("the list is well-formed")
}

/// An attachment to this process's own namespace, which nothing here touches.
pub fn attachment(id: &str) -> Attachment {
    Attachment {
        container_id: id.to_owned(),
        netns: Some("/proc/self/ns/net".into()),
        ifname: "eth0".to_owned(),
        args: vec![("IgnoreUnknown".to_owned(), "1".to_owned())],
        capabilities: Capabilities::from([("portMappings".to_owned(), json!([{"hostPort": 1}]))]),
    }
}

/// Polls for what another process does; fails after a time that only a hang takes.
pub async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let polled = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, polled)
        .await
        .expect("what was awaited came")
}

/// Waits until the process does not run any more; its parent may not have reaped it yet.
pub async fn is_gone(pid: u32) {
    until(|| (!runs(pid)).then_some(())).await;
}

pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !(state.is_empty() || state.starts_with('Z') || state.starts_with('X'))
}
