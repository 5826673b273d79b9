//! The pod network: the reference plugins, and after them `gate`, a plugin that the cases hold shut,
//! let fail, and ask what it was called for.

use crate::wait::until_true;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const CONFLIST: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "tests",
  "plugins": [
    {
      "type": "bridge", "bridge": "tests0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/16"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
    {"type": "gate"}
  ]
}"#;

/// Notes each call. A DEL fails while there is a file `jammed`. An ADD waits while there is a file `shut`, then fails where there is a file
/// `broken`, else passes on what the plugins before it made.
const GATE: &str = r#"#!/bin/sh
cd "${0%/*}" || exit
request=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID" >>calls
if [ "$CNI_COMMAND" = DEL ] && [ -e jammed ]; then
  echo '{"cniVersion": "1.0.0", "code": 100, "msg": "the gate is jammed"}'
  exit 1
fi
[ "$CNI_COMMAND" = ADD ] || exit 0
while [ -e shut ]; do sleep 0.01; done
if [ -e broken ]; then
  echo '{"cniVersion": "1.0.0", "code": 100, "msg": "the gate is broken"}'
  exit 1
fi
printf '%s' "$request" | jq .prevResult
"#;

/// Where host-local keeps one file for each address in use.
const ADDRESSES: &str = "/var/lib/cni/networks/tests";

/// The node's pod network.
pub struct Network {
    /// The directory of `gate` and its files.
    pub plugins: PathBuf,
}

impl Network {
    /// Writes the configuration and the plugin.
    pub fn set_up(scratch: &Path) -> Self {
        let plugins = scratch.join("plugins");
        fs::create_dir_all(&plugins).unwrap();
        let gate = plugins.join("gate");
        fs::write(&gate, GATE).unwrap();
        fs::set_permissions(&gate, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write("/etc/cni/net.d/10-tests.conflist", CONFLIST).unwrap();
        Self { plugins }
    }

    /// From now on an ADD does not end.
    pub fn shut(&self) {
        fs::write(self.plugins.join("shut"), "").unwrap();
    }

    /// ADDs end again.
    pub fn open(&self) {
        fs::remove_file(self.plugins.join("shut")).unwrap();
    }

    /// From now on an ADD fails.
    pub fn break_down(&self) {
        fs::write(self.plugins.join("broken"), "").unwrap();
    }

    /// From now on a DEL fails.
    pub fn jam(&self) {
        fs::write(self.plugins.join("jammed"), "").unwrap();
    }

    /// DELs succeed again.
    pub fn free(&self) {
        fs::remove_file(self.plugins.join("jammed")).unwrap();
    }

    /// ADDs succeed again.
    pub fn repair(&self) {
        fs::remove_file(self.plugins.join("broken")).unwrap();
    }

    /// All calls that began with the last [`Network::forget`].
    pub fn calls(&self, command: &str) -> Vec<String> {
        let text = fs::read_to_string(self.plugins.join("calls")).unwrap_or_default();
        let calls = text.lines().filter_map(|line| line.split_once(' '));
        let calls = calls.filter(|(called, _)| *called == command);
        calls.map(|(_, sandbox)| sandbox.to_owned()).collect()
    }

    /// Begins to note calls anew.
    pub fn forget(&self) {
        fs::write(self.plugins.join("calls"), "").unwrap();
    }

    /// Waits until `count` ADDs have come as far as the gate.
    pub async fn until_added(&self, count: usize) {
        let what = format!("{count} ADDs are at the gate");
        until_true(&what, 30, async || self.calls("ADD").len() >= count).await;
    }
}

/// The addresses that are in use.
pub fn addresses() -> Vec<String> {
    let entries = fs::read_dir(ADDRESSES).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut addresses: Vec<_> = names.filter(|name| name.starts_with("10.")).collect();
    addresses.sort();
    addresses
}
