//! The client against the reference plugins (`bridge`, `host-local`, `portmap`, `tuning`), as the
//! distribution ships them.

mod own_namespaces;

use std::env;
use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_cni::{
    AddResult, Attachment, Capabilities, Client, Error, NetworkList, PluginError, Version,
};
use own_namespaces::{entered, run};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const PLUGINS: &str = "/usr/lib/cni";
const HOST_PORT: u16 = 18080;

/// Runs `body` in namespaces of its own, for which the test `name` is started once more.
fn in_own_namespaces<F: Future<Output = ()>>(name: &str, body: impl FnOnce(Node) -> F) {
    if !entered(name, &env::var_os("PATH").unwrap_or_default()) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(body(Node::new()));
}

/// Everything that a node has for its networks.
struct Node {
    dir: tempfile::TempDir,
    client: Client,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let client = Client::new(vec![PLUGINS.into()], dir.path().join("cni"));
        Self { dir, client }
    }

    fn network(&self, version: &str, more: &[Value]) -> NetworkList {
        let bridge = json!({
            "type": "bridge", "bridge": "test0", "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local", "dataDir": self.dir.path().join("ipam"),
                "ranges": [[{"subnet": "10.213.7.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        let plugins: Vec<_> = [bridge].into_iter().chain(more.iter().cloned()).collect();
        let list = json!({"cniVersion": version, "name": "pods", "plugins": plugins});
        NetworkList::from_bytes(list.to_string().as_bytes()).expect("the list is well-formed")
    }

    /// A namespace `name`, and the attachment of it.
    fn sandbox(&self, name: &str) -> Attachment {
        run("ip", &["netns", "add", name]);
        run("ip", &["-n", name, "link", "set", "lo", "up"]);
        let ports = json!([{"hostPort": HOST_PORT, "containerPort": 80, "protocol": "tcp"}]);
        Attachment {
            container_id: name.to_owned(),
            netns: Some(Path::new("/run/netns").join(name)),
            ifname: "eth0".to_owned(),
            args: vec![("IgnoreUnknown".to_owned(), "1".to_owned())],
            capabilities: Capabilities::from([("portMappings".to_owned(), ports)]),
        }
    }

    /// The addresses that host-local holds.
    fn held(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("ipam/pods")) else {
            return vec![];
        };
        let names = entries
            .flatten()
            .map(|it| it.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect()
    }

    fn cache_file(&self, attachment: &Attachment) -> PathBuf {
        let name = format!("pods-{}-eth0", attachment.container_id);
        self.dir.path().join("cni/results").join(name)
    }
}

fn portmap() -> Value {
    json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true})
}

fn address(result: &AddResult) -> String {
    let address = result
        .addresses("eth0")
        .next()
        .expect("bridge gives an address");
    assert_eq!(address.prefix, 24);
    address.addr.to_string()
}

fn leads_somewhere(port: u16) -> bool {
    run("iptables-save", &["-t", "nat"]).contains(&format!("--dport {port}"))
}

/// A server inside the namespace that answers one connection.
fn serve_once(netns: &Path) -> std::thread::JoinHandle<()> {
    let netns = fs::File::open(netns).expect("the namespace is there");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(netns.as_fd(), network).expect("root may enter");
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("the port is free");
        ready.send(()).expect("the test waits");
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"hello from inside").expect("it is open");
    });
    is_ready.recv().expect("the server came up");
    server
}

fn ask(ip: Ipv4Addr) -> String {
    let address = SocketAddr::from((ip, HOST_PORT));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).expect("the host port answers");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the server writes");
    text
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_a_chain_is_made_and_undone() {
    in_own_namespaces("root_a_chain_is_made_and_undone", |node| async move {
        let network = node.network("1.0.0", &[portmap()]);
        let pod = node.sandbox("pod");
        let result = node.client.add(&network, &pod, LIMIT).await.unwrap();

        let ip = address(&result);
        let shown = run("ip", &["-n", "pod", "-4", "address", "show", "dev", "eth0"]);
        assert!(shown.contains(&format!("inet {ip}/24")), "{shown}");
        assert_eq!(node.held(), [ip.as_str()]);
        let cached: Value =
            serde_json::from_slice(&fs::read(node.cache_file(&pod)).unwrap()).unwrap();
        assert_eq!(
            (&cached["kind"], &cached["containerId"]),
            (&json!("cniCacheV1"), &json!("pod"))
        );
        assert_eq!(cached["result"]["ips"][0]["address"], format!("{ip}/24"));
        assert!(leads_somewhere(HOST_PORT));

        for _ in 0..2 {
            node.client.del(&network, &pod, LIMIT).await.unwrap();
            assert!(!leads_somewhere(HOST_PORT));
            assert!(node.held().is_empty() && !node.cache_file(&pod).exists());
            assert!(!run("ip", &["-n", "pod", "link"]).contains("eth0"));
        }
    });
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_a_host_port_leads_inside() {
    in_own_namespaces("root_a_host_port_leads_inside", |node| async move {
        let network = node.network("1.0.0", &[portmap()]);
        let pod = node.sandbox("pod");
        node.client.add(&network, &pod, LIMIT).await.unwrap();
        for ip in [Ipv4Addr::new(10, 213, 7, 1), Ipv4Addr::LOCALHOST] {
            let server = serve_once(pod.netns.as_ref().unwrap());
            assert_eq!(ask(ip), "hello from inside", "{ip}");
            server.join().unwrap();
        }
        node.client.del(&network, &pod, LIMIT).await.unwrap();
    });
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_every_version_is_spoken() {
    in_own_namespaces("root_every_version_is_spoken", |node| async move {
        for (number, version) in ["0.3.1", "0.4.0", "1.0.0"].into_iter().enumerate() {
            let network = node.network(version, &[json!({"type": "tuning"}), portmap()]);
            let pod = node.sandbox(&format!("pod{number}"));
            let result = node.client.add(&network, &pod, LIMIT).await.unwrap();
            let said: Value = serde_json::from_str(result.json()).unwrap();
            assert_eq!(said["cniVersion"], version);
            assert_eq!(node.held(), [address(&result)]);
            node.client.del(&network, &pod, LIMIT).await.unwrap();
            assert!(node.held().is_empty(), "{version}");
        }
    });
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_a_namespace_that_is_gone_gives_its_address_back() {
    let name = "root_a_namespace_that_is_gone_gives_its_address_back";
    in_own_namespaces(name, |node| async move {
        let network = node.network("1.0.0", &[portmap()]);
        let pod = node.sandbox("pod");
        node.client.add(&network, &pod, LIMIT).await.unwrap();
        run("ip", &["netns", "delete", "pod"]);
        node.client.del(&network, &pod, LIMIT).await.unwrap();
        assert!(node.held().is_empty() && !leads_somewhere(HOST_PORT));
    });
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_a_second_plugin_that_fails_undoes_the_first() {
    in_own_namespaces(
        "root_a_second_plugin_that_fails_undoes_the_first",
        |node| async move {
            let broken = json!({"type": "tuning", "sysctl": {"net.core.no_such_thing": "1"}});
            let network = node.network("1.0.0", &[broken, portmap()]);
            let pod = node.sandbox("pod");
            let error = node.client.add(&network, &pod, LIMIT).await.unwrap_err();
            match &error {
                Error::PluginFailed { plugin, .. } => assert_eq!(plugin, "tuning"),
                other => panic!("the rollback failed: {other}"),
            }
            assert!(node.held().is_empty() && !node.cache_file(&pod).exists());
            assert!(!run("ip", &["-n", "pod", "link"]).contains("eth0"));
            assert!(!run("ip", &["link"]).contains("veth"));
        },
    );
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_many_pods_at_once_have_addresses_of_their_own() {
    in_own_namespaces(
        "root_many_pods_at_once_have_addresses_of_their_own",
        |node| async move {
            let network = node.network("1.0.0", &[]);
            let pods: Vec<_> = (0..8)
                .map(|number| node.sandbox(&format!("pod{number}")))
                .collect();
            let mut adds = tokio::task::JoinSet::new();
            for pod in pods.clone() {
                let (client, network) = (node.client.clone(), network.clone());
                adds.spawn(async move { client.add(&network, &pod, LIMIT).await });
            }
            let results: Vec<_> = adds
                .join_all()
                .await
                .into_iter()
                .map(Result::unwrap)
                .collect();
            let given: std::collections::BTreeSet<_> = results.iter().map(address).collect();
            assert_eq!(given, node.held().into_iter().collect());
            assert_eq!(given.len(), 8);
            node.client.gc(&network, &[], LIMIT).await.unwrap();
            assert!(node.held().is_empty(), "what nobody wants is given back");
        },
    );
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_del_needs_nothing_but_the_cache() {
    in_own_namespaces("root_del_needs_nothing_but_the_cache", |node| async move {
        let pod = node.sandbox("pod");
        node.client
            .add(&node.network("1.0.0", &[portmap()]), &pod, LIMIT)
            .await
            .unwrap();
        let known = node.client.cached_attachments().await.unwrap().remove(0);
        assert_eq!(known.attachment, pod);
        let network = NetworkList::from_bytes(&known.config).unwrap();
        node.client
            .del(&network, &known.attachment, LIMIT)
            .await
            .unwrap();
        assert!(node.held().is_empty() && !leads_somewhere(HOST_PORT));
    });
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_a_damaged_attachment_fails_its_check() {
    in_own_namespaces(
        "root_a_damaged_attachment_fails_its_check",
        |node| async move {
            let (network, pod) = (node.network("1.0.0", &[]), node.sandbox("pod"));
            node.client.add(&network, &pod, LIMIT).await.unwrap();
            node.client.check(&network, &pod, LIMIT).await.unwrap();
            run("ip", &["-n", "pod", "address", "flush", "dev", "eth0"]);
            let error = node.client.check(&network, &pod, LIMIT).await.unwrap_err();
            assert!(matches!(error, Error::PluginFailed { .. }), "{error}");
            node.client.del(&network, &pod, LIMIT).await.unwrap();
        },
    );
}

#[test]
#[ignore = "needs root and the reference CNI plugins"]
fn root_plugins_that_are_too_old_are_told_from_broken_ones() {
    let name = "root_plugins_that_are_too_old_are_told_from_broken_ones";
    in_own_namespaces(name, |node| async move {
        let network = node.network("1.1.0", &[]);
        assert_eq!(network.version(), Version::V1_1_0);
        let pod = node.sandbox("pod");
        match node.client.add(&network, &pod, LIMIT).await {
            // Plugins of 1.4 and later speak 1.1.0.
            Ok(_) => node.client.del(&network, &pod, LIMIT).await.unwrap(),
            Err(error) => {
                let code = error.plugin_error().map(|it| it.code);
                assert_eq!(code, Some(PluginError::INCOMPATIBLE_VERSION), "{error}");
            }
        }
        assert!(node.held().is_empty());
    });
}
