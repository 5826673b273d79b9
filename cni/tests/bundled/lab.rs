//! A node with networks, in namespaces of its own, and what can be seen of it.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::own_namespaces::{entered, run};
use corten_cni::{Attachment, Bundle, Capabilities, Client, NetworkList};
use serde_json::{Value, json};

pub const LIMIT: Duration = Duration::from_secs(60);
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_corten-cni");
const TYPES: [&str; 8] = [
    "bandwidth",
    "bridge",
    "firewall",
    "host-local",
    "loopback",
    "portmap",
    "ptp",
    "tuning",
];
/// Tests ask for it by name, so that it is no drawn one.
pub const MAC: &str = "02:11:22:33:44:55";

/// Whose plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Reference,
    Bundled,
    /// The bundled ones, all of a list by one process.
    Chain,
}

/// Everything that a node has for its networks.
pub struct Lab {
    pub dir: tempfile::TempDir,
}

/// Runs `body` in namespaces of its own, for which the test `name` is started once more.
pub async fn in_own_namespaces<F: Future<Output = ()>>(name: &str, body: impl FnOnce(Lab) -> F) {
    let programs = tempfile::tempdir().unwrap();
    if name.contains(LEGACY) {
        put_legacy_programs(programs.path());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let path = [programs.path().to_owned()]
        .into_iter()
        .chain(env::split_paths(&path));
    if !entered(name, &env::join_paths(path).unwrap()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    body(Lab { dir }).await;
}

/// For which the name of a test asks.
const LEGACY: &str = "legacy";

/// An iptables(8) that is its legacy variant.
fn put_legacy_programs(dir: &Path) {
    let program = "/usr/sbin/xtables-legacy-multi";
    for name in ["iptables", "ip6tables", "iptables-save", "ip6tables-save"] {
        symlink(program, dir.join(name)).unwrap();
    }
}

/// Where the reference plugins are: the tier says it.
fn reference() -> PathBuf {
    env::var_os("CORTEN_CNI_REFERENCE").map_or_else(|| "/usr/lib/cni".into(), PathBuf::from)
}

impl Lab {
    pub fn plugins(&self, side: Side) -> PathBuf {
        if side == Side::Reference {
            return reference();
        }
        let dir = self.dir.path().join("bundled");
        if !dir.exists() {
            fs::create_dir(&dir).unwrap();
            for name in TYPES {
                symlink(PROGRAM, dir.join(name)).unwrap();
            }
        }
        dir
    }

    pub fn client(&self, side: Side) -> Client {
        let plugins = self.plugins(side);
        let client = Client::new(vec![plugins.clone()], self.dir.path().join("cni"));
        match side {
            Side::Chain => client.with_bundle(Bundle::lay_out(PROGRAM.into(), plugins).unwrap()),
            Side::Reference | Side::Bundled => client,
        }
    }

    /// `ranges` in a network `pods`, on a bridge with these keys, and more plugins.
    pub fn network(&self, version: &str, bridge: &Value, more: &[Value]) -> NetworkList {
        let mut first = json!({
            "type": "bridge", "bridge": "test0",
            "ipam": {"type": "host-local", "dataDir": self.ipam()},
        });
        merge(&mut first, bridge);
        let mut plugins: Vec<_> = [first].into_iter().chain(more.iter().cloned()).collect();
        for tuning in plugins.iter_mut().filter(|it| it["type"] == "tuning") {
            merge(tuning, &json!({"dataDir": self.data_dir()}));
        }
        let list = json!({"cniVersion": version, "name": "pods", "plugins": plugins});
        NetworkList::from_bytes(list.to_string().as_bytes()).unwrap()
    }

    pub fn ipam(&self) -> PathBuf {
        self.dir.path().join("ipam")
    }

    /// A namespace `name`, and the attachment of it.
    pub fn pod(&self, name: &str, capabilities: &Value) -> Attachment {
        run("ip", &["netns", "add", name]);
        run("ip", &["-n", name, "link", "set", "lo", "up"]);
        let given: Capabilities = serde_json::from_value(capabilities.clone()).unwrap();
        Attachment {
            container_id: name.to_owned(),
            netns: Some(Path::new("/run/netns").join(name)),
            ifname: "eth0".to_owned(),
            args: vec![("IgnoreUnknown".to_owned(), "1".to_owned())],
            capabilities: given,
        }
    }

    /// The addresses that are held, and by whom.
    pub fn held(&self) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(self.ipam().join("pods")) else {
            return vec![];
        };
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read_to_string(entry.path()).unwrap_or_default())
        };
        let mut all: Vec<_> = entries.flatten().map(read).collect();
        all.sort();
        all
    }

    /// Where tuning keeps how links were.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("tuning")
    }

    /// What it keeps, by the files' names; of hardware addresses only that there is one.
    pub fn tuned(&self) -> Value {
        let Ok(entries) = fs::read_dir(self.data_dir()) else {
            return json!({});
        };
        let read = |entry: fs::DirEntry| {
            let mut file: Value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
            if let Some(mac) = file.get_mut("mac") {
                *mac = mac.as_str().map(str::len).into();
            }
            (entry.file_name().to_string_lossy().into_owned(), file)
        };
        entries
            .flatten()
            .map(read)
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// What a person would see of the node and of the pod's namespace.
    pub fn seen(&self, pod: &str) -> Value {
        let inside = ["-n", pod];
        json!({
            "host": links(&[]),
            "pod": links(&inside),
            "routes": [routes(&inside, "-4"), routes(&inside, "-6")],
            "iptables": rules("iptables-save"),
            "ip6tables": rules("ip6tables-save"),
            "nftables": tables(),
            "held": self.held(),
            "sysctls": sysctls(pod),
            "tuned": self.tuned(),
            "traffic": traffic(),
        })
    }
}

fn merge(into: &mut Value, more: &Value) {
    match (into.as_object_mut(), more.as_object()) {
        (Some(into), Some(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *into = more.clone(),
    }
}

/// Names and hardware addresses are drawn by chance.
pub fn without_chance(text: &str) -> String {
    let is_drawn = |name: &str| name.len() == 12 && name.starts_with("veth");
    if is_drawn(text) {
        "VETH".to_owned()
    } else {
        text.to_owned()
    }
}

/// The same, for the words of a text; of hardware addresses the form is left.
fn without_drawn(text: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches('"');
        let is_mac = bare.len() == 17 && bare.split(':').count() == 6;
        if is_mac {
            "MAC".to_owned()
        } else {
            word.replace(bare, &without_chance(bare))
        }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn json_of(args: &[&str]) -> Vec<Value> {
    serde_json::from_str(&run("ip", args)).unwrap_or_default()
}

fn links(inside: &[&str]) -> Vec<Value> {
    let args = [inside, &["-j", "-d", "address"]].concat();
    let mut all: Vec<_> = json_of(&args).iter().map(link).collect();
    all.sort_by_key(ToString::to_string);
    all
}

fn link(it: &Value) -> Value {
    let addresses: Vec<_> = it["addr_info"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|addr| addr["scope"] != "link")
        .map(|addr| {
            json!([
                addr["local"],
                addr["prefixlen"],
                addr["broadcast"],
                addr["scope"]
            ])
        })
        .collect();
    let slave = &it["linkinfo"]["info_slave_data"];
    json!({
        "name": without_chance(it["ifname"].as_str().unwrap_or_default()),
        "kind": it["linkinfo"]["info_kind"],
        "flags": flags(it), "mtu": it["mtu"],
        "queue": queue(it), "is_wanted_mac": it["address"] == MAC,
        "promiscuity": it["promiscuity"], "master": it["master"],
        "filters": it["linkinfo"]["info_data"]["vlan_filtering"],
        "port": [slave["state"], slave["hairpin"], slave["isolated"]],
        "addresses": addresses,
    })
}

/// Of the links whose queue a plugin sets.
fn queue(it: &Value) -> Value {
    let name = it["ifname"].as_str().unwrap_or_default();
    match name == "eth0" || name.starts_with("bwp") {
        true => it["txqlen"].clone(),
        false => Value::Null,
    }
}

/// Without the carrier, which the kernel looks at a moment later.
fn flags(it: &Value) -> Vec<&str> {
    let all = it["flags"].as_array().into_iter().flatten();
    all.filter_map(Value::as_str)
        .filter(|flag| !["NO-CARRIER", "LOWER_UP", "M-DOWN"].contains(flag))
        .collect()
}

fn routes(inside: &[&str], family: &str) -> Vec<Value> {
    let args = [inside, &["-j", family, "route", "show", "table", "all"]].concat();
    let mut all = json_of(&args);
    // What the kernel makes of each address by itself.
    all.retain(|route| route["dst"] != "fe80::/64" && route["table"] != "local");
    all
}

/// Of the tables that plugins write to.
fn rules(program: &str) -> Vec<String> {
    let of = |table: &&str| rules_of(program, table);
    ["nat", "filter"].iter().flat_map(of).collect()
}

fn rules_of(program: &str, table: &str) -> Vec<String> {
    let text = run(program, &["-t", table]);
    let mut chains: Vec<String> = Vec::new();
    let mut rules = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix(':') {
            Some(chain) => chains.push(chain.split(' ').next().unwrap_or_default().to_owned()),
            None => rules.push(line.to_owned()),
        }
    }
    // Either makes those of the kernel that it needs.
    chains.retain(|name| name.starts_with("CNI"));
    chains.sort();
    // Chains are told in the order in which they were made.
    rules.sort_by_key(|rule| rule.split(' ').nth(1).unwrap_or_default().to_owned());
    chains.extend(rules);
    chains
}

fn tables() -> Vec<String> {
    let all = [
        "ip cni_hostport",
        "ip6 cni_hostport",
        "inet cni_plugins_masquerade",
        "bridge nat",
    ];
    let list = |table: &str| {
        let mut words = vec!["list", "table"];
        words.extend(table.split(' '));
        let output = Command::new("nft").args(words).output().unwrap();
        without_drawn(&String::from_utf8_lossy(&output.stdout))
    };
    all.into_iter().map(list).collect()
}

/// How the host's links are shaped. A link's kernel queues are no part of it, and of a filter's actions
/// only the first one is ever come to.
fn traffic() -> Vec<String> {
    let list: Vec<Value> = serde_json::from_str(&run("tc", &["-j", "qdisc"])).unwrap();
    let mut seen = Vec::new();
    for mut qdisc in list {
        let dev = qdisc["dev"].as_str().unwrap_or_default().to_owned();
        if !["tbf", "ingress"].contains(&qdisc["kind"].as_str().unwrap_or_default()) {
            continue;
        }
        if qdisc["kind"] == "ingress" {
            let filters = run("tc", &["filter", "show", "dev", &dev, "ingress"]);
            let is_told = |line: &&str| !line.contains("order 2") && !line.contains("index");
            let lines = filters.lines().map(str::trim).filter(is_told);
            let to = lines.filter(|line| line.contains("order 1") || line.contains("match"));
            seen.extend(to.map(|line| format!("{} {line}", without_chance(&dev))));
        }
        qdisc["dev"] = without_chance(&dev).into();
        qdisc["refcnt"] = Value::Null;
        seen.push(qdisc.to_string());
    }
    seen.sort();
    seen
}

fn sysctls(pod: &str) -> Value {
    let on_host = |key: &str| fs::read_to_string(format!("/proc/sys/{key}")).unwrap_or_default();
    let host = [
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/ipv4/conf/test0/route_localnet",
        "net/ipv6/conf/test0/accept_ra",
    ];
    let inside = [
        "net/ipv4/conf/eth0/arp_notify",
        "net/ipv6/conf/eth0/accept_dad",
        "net/ipv6/conf/eth0/keep_addr_on_down",
        "net/ipv4/conf/eth0/arp_filter",
        "net/core/somaxconn",
    ];
    let in_pod = |key: &str| {
        let output = Command::new("ip")
            .args(["netns", "exec", pod, "cat", &format!("/proc/sys/{key}")])
            .output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    json!([host.map(on_host), inside.map(in_pod)])
}
