//! Containers that do harm. Each is stopped within its grace, is removed wholly, and those beside
//! it hardly notice.
//!
//! How long a stop may take is told by another stop: the same grace, of a container that merely
//! does not obey.

mod log_disk;
mod neighbour;
mod unanswered;

use crate::node::{Node, in_a_node};
use crate::pods::{self, Pod, gated, in_namespaces, joined, shell, with_memory};
use crate::wait::until_true;
use corten_proto::runtime::v1::*;
use log_disk::LogDisk;
use neighbour::Neighbour;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use unanswered::Unanswered;

/// Of each stop, in seconds.
const GRACE: i64 = 1;
/// How much longer the end of a hostile one may take than that of one that only does not obey.
const RATIO: u32 = 5;
const ZOMBIES: usize = 10_000;
const PIDS_LIMIT: u32 = 300;
/// One for each bomb: the limit is the user's, and the cases run side by side.
const USERS: [i64; 2] = [54_321, 54_322];
const USERS_PROCESSES: u32 = 1000;
const MEMORY: i64 = 32 << 20;

/// Where all is made ready for one to come.
struct Scene {
    neighbour: Neighbour,
    usual: Duration,
    gate: PathBuf,
}

impl Scene {
    async fn set(node: &Node) -> Self {
        let gate = node.gate("hostile");
        compile(&gate);
        let pod = node.run(pods::pod("usual")).await;
        let id = node.launch(&pod, hostile("usual", "deaf", &gate)).await;
        node.await_ready(&id).await;
        let usual = stop(node, &id).await;
        let neighbour = Neighbour::beside(node).await;
        Self {
            neighbour,
            usual,
            gate,
        }
    }

    /// Looks at the neighbour; then stops and removes the hostile one.
    async fn end(&self, node: &Node, pod: &Pod, id: &str) -> ContainerStatus {
        self.neighbour.assert_undisturbed(node).await;
        let took = stop(node, id).await;
        println!("stopped in {took:?}; a usual one in {:?}", self.usual);
        assert!(took < RATIO * self.usual, "{took:?}");
        let status = node.cri.status(id).await.unwrap();
        node.cri.remove(id).await.unwrap();
        node.cri.stop_pod(&pod.id).await.unwrap();
        node.cri.remove_pod(&pod.id).await.unwrap();
        until_true("none of its processes is left", 10, async || {
            count_of("hostile") == 0
        })
        .await;
        self.neighbour.assert_undisturbed(node).await;
        status
    }
}

/// Runs a hostile container in a pod and waits until it is what it is called.
async fn enter(node: &Node, pod: PodSandboxConfig, container: ContainerConfig) -> (Pod, String) {
    let pod = node.run(pod).await;
    let id = node.launch(&pod, container).await;
    node.await_ready(&id).await;
    (pod, id)
}

async fn stop(node: &Node, id: &str) -> Duration {
    let begun = Instant::now();
    node.cri.stop(id, GRACE).await.unwrap();
    begun.elapsed()
}

/// The program of all of them, in a directory that is mounted.
fn compile(gate: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/root_daemon/hostile/hostile.c");
    let words = ["-static", "-Os", "-s", "-o"];
    let done = Command::new("gcc")
        .args(words)
        .arg(gate.join("hostile"))
        .arg(source)
        .status();
    assert!(done.unwrap().success());
}

fn hostile(name: &str, verb: &str, gate: &Path) -> ContainerConfig {
    gated(shell(name, &format!("exec /gate/hostile {verb}")), gate)
}

fn sharing_processes(name: &str) -> PodSandboxConfig {
    let shared = NamespaceOption {
        pid: NamespaceMode::Pod.into(),
        ..Default::default()
    };
    in_namespaces(pods::pod(name), shared)
}

fn as_user(mut container: ContainerConfig, user: i64) -> ContainerConfig {
    let context = container.linux.as_mut().unwrap().security_context.as_mut();
    context.unwrap().run_as_user = Some(Int64Value { value: user });
    container
}

/// How many processes have this name, also those that have ended and were not waited for.
fn count_of(name: &str) -> usize {
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(stat);
    all.filter(|stat| stat.contains(&format!("({name})")))
        .count()
}

/// A parent of pods' cgroups as a kubelet makes it for pods that ask for nothing: with the least
/// share of the processors there is, so that what is seen of the neighbour is not the scheduler's
/// fairness to a thousand processes that never wait.
struct Parent {
    name: String,
    pids: PathBuf,
}

impl Parent {
    fn new(name: &str) -> Self {
        let name = format!("/corten-test-{name}");
        let cpu = folder("cpu", &name);
        std::fs::create_dir(&cpu).unwrap();
        let (file, least) = if cpu.join("cpu.shares").exists() {
            ("cpu.shares", "2")
        } else {
            ("cpu.weight", "1")
        };
        std::fs::write(cpu.join(file), least).unwrap();
        let pids = folder("pids", &name);
        std::fs::create_dir_all(&pids).unwrap();
        Self { name, pids }
    }

    fn limited_to(self, processes: u32) -> Self {
        std::fs::write(self.pids.join("pids.max"), processes.to_string()).unwrap();
        self
    }

    fn pod(&self, mut pod: PodSandboxConfig) -> PodSandboxConfig {
        pod.linux.as_mut().unwrap().cgroup_parent = self.name.clone();
        pod
    }

    /// From every hierarchy: the daemon leaves a parent to whom it belongs.
    async fn remove(self) {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let folders = hierarchies.map(|entry| entry.path().join(&self.name[1..]));
        for folder in folders.chain([self.pids]) {
            let gone = async || std::fs::remove_dir(&folder).is_ok() || !folder.exists();
            until_true("the parent is empty", 10, gone).await;
        }
    }

    fn is_full(&self) -> bool {
        let now: u32 = std::fs::read_to_string(self.pids.join("pids.current"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        now >= PIDS_LIMIT
    }
}

/// Where a cgroup is in the hierarchy of a controller.
fn folder(controller: &str, name: &str) -> PathBuf {
    let v1 = Path::new("/sys/fs/cgroup").join(controller);
    let root = if v1.is_dir() {
        v1
    } else {
        PathBuf::from("/sys/fs/cgroup")
    };
    root.join(&name[1..])
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_fork_bomb_under_a_limit_of_processes() {
    in_a_node(async |node| {
        let scene = Scene::set(node).await;
        let limited = Parent::new("limited").limited_to(PIDS_LIMIT);
        let pod = limited.pod(sharing_processes("bomb"));
        let container = joined(hostile("bomb", "bomb", &scene.gate), &pod);
        let (pod, id) = enter(node, pod, container).await;
        until_true("the limit is reached", 20, async || limited.is_full()).await;
        scene.end(node, &pod, &id).await;
        limited.remove().await;
    });
}

async fn bomb_of_a_user(node: &Node, pod: PodSandboxConfig, user: i64) {
    let scene = Scene::set(node).await;
    let parent = Parent::new(&format!("of-{user}"));
    let pod = parent.pod(pod);
    // The kernel's limit for the user, not one of the container: the node itself has to go on.
    let bomb = hostile("bomb", &format!("bomb {USERS_PROCESSES}"), &scene.gate);
    let bomb = joined(as_user(bomb, user), &pod);
    let (pod, id) = enter(node, pod, bomb).await;
    until_true("it has its processes", 20, async || {
        count_of("hostile") > 900
    })
    .await;
    scene.end(node, &pod, &id).await;
    parent.remove().await;
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_fork_bomb_without_a_limit_in_processes_of_its_own() {
    in_a_node(async |node| bomb_of_a_user(node, pods::pod("bomb"), USERS[0]).await);
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_fork_bomb_without_a_limit_among_shared_processes() {
    in_a_node(async |node| bomb_of_a_user(node, sharing_processes("bomb"), USERS[1]).await);
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_that_ignores_all_signals() {
    in_a_node(async |node| {
        let scene = Scene::set(node).await;
        let pod = sharing_processes("deaf");
        let container = joined(hostile("deaf", "deaf", &scene.gate), &pod);
        let (pod, id) = enter(node, pod, container).await;
        let ended = scene.end(node, &pod, &id).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_ten_thousand_zombies() {
    in_a_node(async |node| {
        let scene = Scene::set(node).await;
        let pod = sharing_processes("zombies");
        let verb = format!("zombies {ZOMBIES}");
        let container = joined(hostile("zombies", &verb, &scene.gate), &pod);
        let (pod, id) = enter(node, pod, container).await;
        assert!(count_of("hostile") > ZOMBIES);
        scene.end(node, &pod, &id).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_that_stops_itself() {
    in_a_node(async |node| {
        let scene = Scene::set(node).await;
        let pod = sharing_processes("stopped");
        let container = joined(hostile("stopped", "stopped", &scene.gate), &pod);
        let (pod, id) = enter(node, pod, container).await;
        assert_eq!(
            node.cri.ask(&id, "echo in").await,
            "in",
            "an exec is not stopped"
        );
        let ended = scene.end(node, &pod, &id).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_that_fills_its_log() {
    in_a_node(async |node| {
        let scene = Scene::set(node).await;
        let container = hostile("loud", "loud", &scene.gate);
        let pod = node.run(pods::pod("loud")).await;
        let id = node.launch(&pod, container).await;
        let size =
            || std::fs::metadata(pods::log_path(&pod.config, "loud")).map_or(0, |log| log.len());
        until_true("much is in its log", 20, async || size() > 32 << 20).await;
        assert_eq!(
            node.cri.ask(&id, "echo in").await,
            "in",
            "an exec beside a loud process"
        );
        scene.end(node, &pod, &id).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_that_fills_its_shared_memory() {
    in_a_node(async |node| {
        let scene = Scene::set(node).await;
        let fill =
            "trap : TERM; cat /dev/zero >/dev/shm/all; echo ready; while :; do sleep 1; done";
        let (pod, id) = enter(node, pods::pod("shm"), shell("shm", fill)).await;
        let full = node.cri.ask(&id, "df -k /dev/shm | tail -n 1").await;
        assert!(full.contains("100%"), "{full}");
        let other = node
            .launch(&node.run(pods::pod("other")).await, pods::idle("other"))
            .await;
        node.cri
            .ask(&other, "echo there is room >/dev/shm/some")
            .await;
        scene.end(node, &pod, &id).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_that_fills_its_memory_for_ever() {
    in_a_node(async |node| {
        let scene = Scene::set(node).await;
        let greedy = with_memory(hostile("greedy", "greedy", &scene.gate), MEMORY);
        let (pod, id) = enter(node, pods::pod("greedy"), greedy).await;
        scene.end(node, &pod, &id).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_that_the_kernel_holds() {
    in_a_node(async |node| {
        let place = node.scratch.join("unanswered");
        let Some(unanswered) = Unanswered::at(&place) else {
            println!("no FUSE in this kernel");
            return;
        };
        let scene = Scene::set(node).await;
        let mut container = hostile("held", "waiting /held/file", &scene.gate);
        container.mounts.push(Mount {
            container_path: "/held".to_owned(),
            host_path: place.to_str().unwrap().to_owned(),
            ..Default::default()
        });
        let (pod, id) = enter(node, pods::pod("held"), container).await;
        until_true("it waits", 10, async || unanswered.was_asked()).await;
        let stopping = node.cri.stop(&id, 0);
        let looking = scene.neighbour.assert_undisturbed(node);
        let (refusal, ()) = tokio::join!(stopping, looking);
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::Internal, "{refusal}");
        assert!(
            refusal.message().contains("request_wait_answer"),
            "it says where: {refusal}"
        );
        let running = node.cri.status(&id).await.unwrap();
        assert_eq!(running.state(), ContainerState::ContainerRunning);
        drop(unanswered);
        let ended = node.cri.ended(&id).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
        scene.end(node, &pod, &id).await;
    });
}

/// Who writes to that disk is not the one that answers.
#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_log_disk_that_stands_still_holds_up_nobody_but_who_prints() {
    in_a_node(async |node| {
        let place = node.scratch.join("log_disk");
        let Some(disk) = LogDisk::at(&place) else {
            println!("no FUSE in this kernel");
            return;
        };
        let mut config = pods::pod("stalled");
        config.log_directory = place.to_str().unwrap().to_owned();
        let pod = node.run(config).await;
        let id = node
            .launch(&pod, shell("c", "while :; do echo a line; done"))
            .await;
        until_true("a line", 10, async || disk.written() > 0).await;
        disk.stall();
        until_true("a write waits", 10, async || disk.is_waited_for()).await;
        assert_answers(node, &id).await;
        node.cri.stop(&id, GRACE).await.unwrap();
        let ended = node.cri.status(&id).await.unwrap();
        assert_eq!(ended.state(), ContainerState::ContainerExited);
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
        node.cri.remove(&id).await.unwrap();
        drop(disk);
    });
}

/// Exec, limits and status of a container, each of which is the business of another process.
async fn assert_answers(node: &Node, id: &str) {
    let exec = node.cri.exec(id, "echo here", 5).await.unwrap();
    assert_eq!(exec.stdout, b"here\n");
    let request = UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(LinuxContainerResources {
            cpu_shares: 512,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut runtime = node.cri.runtime();
    let limits = runtime.update_container_resources(request);
    let limits = tokio::time::timeout(Duration::from_secs(10), limits).await;
    limits.expect("limits are set").unwrap();
    let status = node.cri.status(id).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerRunning);
}
