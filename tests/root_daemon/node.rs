//! Where a case runs: a node of its own, a daemon in it, and the two looks at what it holds.

use crate::cri::Cri;
use crate::daemon::Daemon;
use crate::leftovers::{Holdings, await_nothing_left};
use crate::network::Network;
use crate::{image, pods};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Set when the program was started for one case in a node.
const INSIDE: &str = "CORTEN_ROOT_CASE";
/// Set by `tests/lib/node`: its scratch directory.
const NODE: &str = "CORTEN_NODE";
/// For one case with all its waits.
const LIMIT: Duration = Duration::from_secs(100);

/// A running daemon and its surroundings.
pub struct Node {
    /// The process.
    pub daemon: Daemon,
    /// A client of it.
    pub cri: Cri,
    /// The pod network.
    pub network: Network,
    /// A directory that vanishes with the node.
    pub scratch: PathBuf,
}

/// Runs a case: outside of a node by starting this very test inside of one.
pub fn in_a_node<F: AsyncFnOnce(&mut Node)>(case: F) {
    match std::env::var_os(INSIDE) {
        None => again_inside(&test_name::<F>()),
        Some(_) => tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(async { tokio::time::timeout(LIMIT, run(case)).await })
            .expect("the case ends in time"),
    }
}

/// `module::function`, out of the type of a closure in that function.
fn test_name<F>() -> String {
    let name = std::any::type_name::<F>();
    let function = name.split("::{{closure}}").next().unwrap_or(name);
    let (_program, test) = function.split_once("::").expect("a path in this program");
    test.to_owned()
}

fn again_inside(test: &str) {
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lib/node");
    let this = std::env::current_exe().unwrap();
    let arguments = [
        "--exact",
        test,
        "--include-ignored",
        "--nocapture",
        "--test-threads=1",
    ];
    let done = Command::new(&node)
        .arg(this)
        .args(arguments)
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .output();
    let done = done.unwrap_or_else(|e| panic!("{}: {e}", node.display()));
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    // Not at the beginning of a line, where its result would be taken for one of this run.
    said.lines().for_each(|line| println!("  | {line}"));
    assert!(done.status.success(), "{test} in its node: {}", done.status);
    assert!(said.contains(" 1 passed;"), "no test {test} was found");
}

async fn run<F: AsyncFnOnce(&mut Node)>(case: F) {
    let mut node = Node::start().await;
    node.warm_up().await;
    let before = Holdings::of_this_node();
    case(&mut node).await;
    node.remove_all().await;
    await_nothing_left(&before).await;
}

impl Node {
    async fn start() -> Self {
        let scratch = PathBuf::from(std::env::var_os(NODE).unwrap()).join("tmp");
        let network = Network::set_up(&scratch);
        let mut daemon = Daemon::start(&scratch, &network.plugins);
        let cri = Cri::connect(&mut daemon).await;
        let layout = scratch.join("image");
        image::write_layout(&layout);
        cri.import(&layout, image::NAME).await;
        std::fs::remove_dir_all(layout).unwrap();
        Self {
            daemon,
            cri,
            network,
            scratch,
        }
    }

    /// Some things stay after the first pod by design: the bridge, chains of the firewall, empty
    /// directories, the cgroup of the shims, that of pods without one of the kubelet's. With a
    /// second one at its side all kinds are there.
    async fn warm_up(&self) {
        let pod = self.run(pods::pod("warm-up")).await;
        let mut web = pods::with_host_port(pods::pod("warm-up-port"), 80, 17_999);
        web.linux.as_mut().unwrap().cgroup_parent = String::new();
        let second = self.run(web).await;
        for pod in [&pod, &second] {
            self.launch(pod, pods::idle("c")).await;
        }
        self.remove_all().await;
    }

    /// Kills the daemon as nothing else can, and waits until it is gone.
    pub fn kill_daemon(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again and connects to it.
    pub async fn start_daemon(&mut self) {
        self.daemon.start_again();
        self.cri = Cri::connect(&mut self.daemon).await;
    }

    /// Stops and removes every pod.
    pub async fn remove_all(&self) {
        for pod in self.cri.pods().await {
            self.cri.stop_pod(&pod.id).await.unwrap();
            self.cri.remove_pod(&pod.id).await.unwrap();
        }
        assert_eq!(self.cri.pods().await, []);
        assert_eq!(self.cri.containers().await, []);
    }

    /// The directory in which a container finds the gate that [`pods::gated`] mounts.
    pub fn gate(&self, name: &str) -> PathBuf {
        let gate = self.scratch.join("gates").join(name);
        std::fs::create_dir_all(&gate).unwrap();
        gate
    }
}
