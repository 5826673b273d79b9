//! Corten's own CNI plugins serve pods as the reference plugins do, and a node changes from one to the
//! other with pods running.

use crate::network::addresses;
use crate::node::{Node, in_a_node};
use crate::pod_network::{SERVE, get};
use crate::pods::{self, Pod, shell, with_host_port};
use crate::wait::{until, until_true};
use std::fs;

/// As the other cases' network, without the plugin that only they have.
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
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
  ]
}"#;

/// Nothing of the node's own.
const BUNDLED: &str = "bin_dirs = ['/nowhere']\nbundled_plugins = 'fallback'\n";
const PREFERRED: &str = "bin_dirs = ['/opt/cni/bin']\nbundled_plugins = 'prefer'\n";
const REFERENCE: &str = "bin_dirs = ['/opt/cni/bin']\nbundled_plugins = 'never'\n";

/// Kills the daemon and starts it with these keys of `[cni]`.
async fn change(node: &mut Node, keys: &str) {
    node.kill_daemon();
    fs::write("/etc/cni/net.d/10-tests.conflist", CONFLIST).unwrap();
    node.daemon.configure(&format!("[cni]\n{keys}"));
    node.start_daemon().await;
}

async fn web(node: &Node, name: &str, port: i32) -> (Pod, String) {
    let pod = node.run(with_host_port(pods::pod(name), 80, port)).await;
    node.launch(&pod, shell("web", SERVE)).await;
    let ip = node.cri.ip(&pod.id).await;
    (pod, ip)
}

async fn answers(ip: &str, port: u16) {
    for address in [(ip, 80), ("127.0.0.1", port)] {
        let page = until(&format!("{address:?} answers"), 20, async || get(address)).await;
        assert_eq!(page, "hello");
    }
}

/// The host's ends of pods' pairs.
fn pairs() -> usize {
    let links = fs::read_to_string("/proc/net/dev").unwrap();
    let names = links.lines().map(str::trim);
    names.filter(|name| name.starts_with("veth")).count()
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_bundled_plugins_serve_pods_and_a_killed_daemon_takes_them_back() {
    in_a_node(async |node| {
        let before = pairs();
        change(node, BUNDLED).await;
        let (first, ip) = web(node, "first", 12_100).await;
        let (second, other) = web(node, "second", 12_101).await;
        answers(&ip, 12_100).await;
        answers(&other, 12_101).await;
        node.kill_daemon();
        answers(&ip, 12_100).await;
        node.start_daemon().await;
        node.cri.stop_pod(&first.id).await.unwrap();
        assert_eq!(get(("127.0.0.1", 12_100)), None);
        assert_eq!(addresses(), [other.as_str()]);
        answers(&other, 12_101).await;
        node.cri.stop_pod(&second.id).await.unwrap();
        assert_eq!(addresses(), Vec::<String>::new());
        until_true("the pairs are gone", 20, async || pairs() == before).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_node_changes_its_plugins_with_pods_running() {
    in_a_node(async |node| {
        let before = pairs();
        change(node, REFERENCE).await;
        let (one, at) = web(node, "one", 12_110).await;
        let (two, also_at) = web(node, "two", 12_111).await;
        answers(&at, 12_110).await;
        change(node, PREFERRED).await;
        answers(&at, 12_110).await;
        let (three, third) = web(node, "three", 12_112).await;
        node.cri.stop_pod(&one.id).await.unwrap();
        assert_eq!(get(("127.0.0.1", 12_110)), None);
        answers(&also_at, 12_111).await;
        answers(&third, 12_112).await;
        change(node, REFERENCE).await;
        answers(&third, 12_112).await;
        node.cri.stop_pod(&three.id).await.unwrap();
        assert_eq!(get(("127.0.0.1", 12_112)), None);
        node.cri.stop_pod(&two.id).await.unwrap();
        assert_eq!(addresses(), Vec::<String>::new());
        until_true("the pairs are gone", 20, async || pairs() == before).await;
    });
}
