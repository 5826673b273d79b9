//! The pod network as containers and the node see it.

use crate::network::addresses;
use crate::node::in_a_node;
use crate::pods::{self, idle, shell, with_host_port};
use crate::wait::until;
use corten_proto::runtime::v1::DnsConfig;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

pub const SERVE: &str =
    "mkdir /tmp/www; echo hello >/tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www";

/// The last line of what a web server answers; `None` where nobody listens.
pub fn get(address: impl ToSocketAddrs) -> Option<String> {
    let address = address.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().last().map(str::to_owned)
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_pod_is_reached_at_its_address_and_its_host_port() {
    in_a_node(async |node| {
        let pod = node.run(with_host_port(pods::pod("web"), 80, 12_000)).await;
        node.launch(&pod, shell("web", SERVE)).await;
        let ip = node.cri.ip(&pod.id).await;
        assert_eq!(addresses(), [ip.as_str()]);
        for address in [
            (ip.as_str(), 80),
            ("127.0.0.1", 12_000),
            (own_address().as_str(), 12_000),
        ] {
            let page = until(&format!("{address:?} answers"), 10, async || get(address)).await;
            assert_eq!(page, "hello");
        }
        node.cri.stop_pod(&pod.id).await.unwrap();
        assert_eq!(get(("127.0.0.1", 12_000)), None);
        assert_eq!(
            addresses(),
            Vec::<String>::new(),
            "the address is free at stop"
        );
    });
}

/// The address that the node has besides the loopback's.
fn own_address() -> String {
    std::env::var("CORTEN_NODE_IP").unwrap()
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_pods_reach_each_other() {
    in_a_node(async |node| {
        let web = node.run(pods::pod("web")).await;
        node.launch(&web, shell("web", SERVE)).await;
        let (_client, id) = node.idle().await;
        let fetch = format!("wget -q -O - http://{}/", node.cri.ip(&web.id).await);
        let page = until("the page", 10, async || {
            let done = node.cri.exec(&id, &fetch, 5).await.unwrap();
            (done.exit_code == 0).then_some(done.stdout)
        })
        .await;
        assert_eq!(page, b"hello\n");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_pod_knows_its_name_its_address_and_its_resolvers() {
    in_a_node(async |node| {
        let mut config = pods::pod("web-0");
        config.dns_config = Some(DnsConfig {
            servers: vec!["10.96.0.10".to_owned()],
            searches: vec!["tests.svc.cluster.local".to_owned()],
            options: vec!["ndots:5".to_owned()],
        });
        let pod = node.run(config).await;
        let id = node.launch(&pod, idle("c")).await;
        let ip = node.cri.ip(&pod.id).await;
        assert_eq!(
            node.cri.ask(&id, "hostname; cat /etc/hostname").await,
            "web-0\nweb-0"
        );
        let hosts = node.cri.ask(&id, "cat /etc/hosts").await;
        assert!(hosts.ends_with(&format!("{ip}\tweb-0")), "{hosts}");
        let resolvers = node.cri.ask(&id, "cat /etc/resolv.conf").await;
        let expected = "search tests.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5";
        assert_eq!(resolvers, expected);
        let own = node.cri.ask(&id, "ip -o -4 address show eth0").await;
        assert!(own.contains(&format!("{ip}/16")), "{own}");
    });
}
