//! Events of pods and containers, as a kubelet follows them.

use crate::node::{Node, in_a_node};
use crate::pods::{self, Pod};
use crate::processes;
use crate::wait::until_true;
use corten_proto::runtime::v1::ContainerEventType::{self, *};
use corten_proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use corten_proto::runtime::v1::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

/// Served in the case's own network.
const METRICS: &str = "127.0.0.1:9099";
/// More than a reader may be behind (512) and what lies in the buffers of a small connection.
const MANY: usize = 180;

/// One who follows events.
struct Reader(Streaming<ContainerEventResponse>);

impl Reader {
    async fn of(node: &Node) -> Self {
        Self::over(node.cri.runtime()).await
    }

    async fn over(mut client: RuntimeServiceClient<tonic::transport::Channel>) -> Self {
        let answer = client.get_container_events(GetEventsRequest {}).await;
        Self(answer.unwrap().into_inner())
    }

    /// The next event of the case's pods, whose uids begin so: who comes first is also told of those that were
    /// there before the case. `None` at the end.
    async fn next(&mut self) -> Result<Option<ContainerEventResponse>, Status> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(40), self.0.message()).await;
            let event = message.expect("an event, or the end")?;
            let is_other = |event: &ContainerEventResponse| !uid(event).starts_with("uid-pod");
            if !event.as_ref().is_some_and(is_other) {
                return Ok(event);
            }
        }
    }

    /// The next event must be this one.
    async fn expect(&mut self, kind: ContainerEventType, subject: &str) -> ContainerEventResponse {
        let event = self.next().await.unwrap().expect("no end");
        let found = (event.container_event_type(), event.container_id.as_str());
        assert_eq!(found, (kind, subject), "{event:?}");
        event
    }

    /// The next so many events.
    async fn take(&mut self, count: usize) -> Vec<(ContainerEventType, String)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let event = self.next().await.unwrap().expect("no end");
            taken.push((event.container_event_type(), event.container_id));
        }
        taken
    }
}

fn uid(event: &ContainerEventResponse) -> &str {
    let sandbox = event.pod_sandbox_status.as_ref().expect("a sandbox");
    &sandbox.metadata.as_ref().unwrap().uid
}

fn states(event: &ContainerEventResponse) -> Vec<ContainerState> {
    let statuses = event.containers_statuses.iter();
    statuses.map(ContainerStatus::state).collect()
}

fn of<'a>(event: &'a ContainerEventResponse, id: &str) -> &'a ContainerStatus {
    let mut statuses = event.containers_statuses.iter();
    statuses.find(|status| status.id == id).unwrap()
}

fn pod_state(event: &ContainerEventResponse) -> PodSandboxState {
    event.pod_sandbox_status.as_ref().unwrap().state()
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_pods_life_is_told_step_by_step_to_all_who_follow() {
    in_a_node(async |node| {
        let (mut one, mut other) = (Reader::of(node).await, Reader::of(node).await);
        let (pod, first) = node.idle().await;
        let second = node.launch(&pod, pods::idle("second")).await;
        node.cri.stop(&first, 5).await.unwrap();
        node.cri.remove(&first).await.unwrap();
        node.cri.stop_pod(&pod.id).await.unwrap();
        node.cri.remove_pod(&pod.id).await.unwrap();

        // All is over, and each event shows the pod as it was just after it.
        let created = one.expect(ContainerCreatedEvent, &pod.id).await;
        assert_eq!(states(&created), []);
        let network = created.pod_sandbox_status.as_ref().unwrap().network.clone();
        assert!(!network.unwrap().ip.is_empty());
        let mut times = vec![created.created_at];
        use ContainerState::{ContainerCreated, ContainerExited, ContainerRunning};
        use PodSandboxState::{SandboxNotready, SandboxReady};
        for (kind, subject, pods_state, containers) in [
            (ContainerStartedEvent, &pod.id, SandboxReady, vec![]),
            (
                ContainerCreatedEvent,
                &first,
                SandboxReady,
                vec![ContainerCreated],
            ),
            (
                ContainerStartedEvent,
                &first,
                SandboxReady,
                vec![ContainerRunning],
            ),
            (
                ContainerCreatedEvent,
                &second,
                SandboxReady,
                vec![ContainerRunning, ContainerCreated],
            ),
            (
                ContainerStartedEvent,
                &second,
                SandboxReady,
                vec![ContainerRunning, ContainerRunning],
            ),
            (
                ContainerStoppedEvent,
                &first,
                SandboxReady,
                vec![ContainerExited, ContainerRunning],
            ),
            (
                ContainerDeletedEvent,
                &first,
                SandboxReady,
                vec![ContainerRunning],
            ),
            (
                ContainerStoppedEvent,
                &pod.id,
                SandboxNotready,
                vec![ContainerRunning],
            ),
            (
                ContainerStoppedEvent,
                &second,
                SandboxNotready,
                vec![ContainerExited],
            ),
            (ContainerDeletedEvent, &second, SandboxNotready, vec![]),
            (ContainerDeletedEvent, &pod.id, SandboxNotready, vec![]),
        ] {
            let event = one.expect(kind, subject).await;
            assert_eq!(
                (pod_state(&event), states(&event)),
                (pods_state, containers)
            );
            times.push(event.created_at);
        }
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");

        other.expect(ContainerCreatedEvent, &pod.id).await;
        let last = other.take(11).await.pop().unwrap();
        assert_eq!(last, (ContainerDeletedEvent, pod.id.clone()));
        // Nothing more was told of it: the next is another pod's.
        let next = node.run(pods::pod("pod-2")).await;
        one.expect(ContainerCreatedEvent, &next.id).await;
        other.expect(ContainerCreatedEvent, &next.id).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_container_that_ends_at_once_is_started_then_stopped_with_its_times() {
    in_a_node(async |node| {
        let mut reader = Reader::of(node).await;
        let pod = node.run(pods::pod("pod")).await;
        reader.take(2).await;
        for round in 0..10 {
            let container = pods::shell(&format!("quick-{round}"), "exit 3");
            let id = node.launch(&pod, container).await;
            reader.expect(ContainerCreatedEvent, &id).await;
            reader.expect(ContainerStartedEvent, &id).await;
            let event = reader.expect(ContainerStoppedEvent, &id).await;
            let status = of(&event, &id);
            assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
            assert!(status.started_at > 0 && status.finished_at >= status.started_at);
            assert!(event.created_at >= status.finished_at);
            // What is told can be asked for.
            assert_eq!(node.cri.status(&id).await.unwrap(), *status);
        }
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_an_end_for_memory_and_a_start_that_fails_are_told_with_their_reasons() {
    in_a_node(async |node| {
        let mut reader = Reader::of(node).await;
        let pod = node.run(pods::pod("pod")).await;
        reader.take(2).await;
        let script = "exec dd if=/dev/zero of=/dev/null bs=128M count=1";
        let hungry = pods::with_memory(pods::shell("hungry", script), 32 << 20);
        let id = node.launch(&pod, hungry).await;
        reader.expect(ContainerCreatedEvent, &id).await;
        reader.expect(ContainerStartedEvent, &id).await;
        let event = reader.expect(ContainerStoppedEvent, &id).await;
        let status = of(&event, &id);
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (137, "OOMKilled")
        );

        let mut absent = pods::idle("absent");
        absent.command = vec!["/there/is/no/such/program".to_owned()];
        let id = node.cri.create(&pod, &absent).await.unwrap();
        node.cri.start(&id).await.unwrap_err();
        reader.expect(ContainerCreatedEvent, &id).await;
        let event = reader.expect(ContainerStoppedEvent, &id).await;
        let status = of(&event, &id);
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (128, "StartError")
        );
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_an_end_while_there_is_no_daemon_is_told_by_the_next_one() {
    in_a_node(async |node| {
        let gate = node.gate("pod");
        let (pod, idle) = node.idle().await;
        let waits = "while [ ! -e /gate/end ]; do sleep 0.05; done; exit 7";
        let waits = pods::gated(pods::shell("waits", waits), &gate);
        let id = node.launch(&pod, waits).await;
        let pid = node.cri.pid(&id).await;
        let mut cut = Reader::of(node).await;
        cut.take(6).await;
        node.kill_daemon();
        cut.next().await.expect_err("its daemon was killed");
        std::fs::write(gate.join("end"), "").unwrap();
        until_true("it ended", 20, async || !processes::lives(pid)).await;
        node.start_daemon().await;
        let mut reader = Reader::of(node).await;
        let event = reader.expect(ContainerStoppedEvent, &id).await;
        assert_eq!(of(&event, &id).exit_code, 7);
        // What has not changed is not told again.
        node.cri.stop(&idle, 5).await.unwrap();
        reader.expect(ContainerStoppedEvent, &idle).await;
    });
}

/// Starts the daemon again, with an address for its figures.
async fn tell_figures(node: &mut Node) {
    let drop_ins = Path::new("/etc/corten/corten.toml.d");
    std::fs::create_dir_all(drop_ins).unwrap();
    let text = format!("[metrics]\naddress = \"{METRICS}\"\n");
    std::fs::write(drop_ins.join("metrics.toml"), text).unwrap();
    node.kill_daemon();
    node.start_daemon().await;
}

/// A figure of the daemon's that has no labels.
fn figure(name: &str) -> u64 {
    let mut connection = TcpStream::connect(METRICS).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {METRICS}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("the figure is told").trim().parse().unwrap()
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_what_happens_between_two_streams_is_told_to_the_second() {
    in_a_node(async |node| {
        tell_figures(node).await;
        let mut reader = Reader::of(node).await;
        let (pod, id) = node.idle().await;
        reader.take(4).await;
        drop(reader);
        let has_left = async || figure("corten_container_event_readers") == 0;
        until_true("the daemon sees that it has left", 20, has_left).await;
        node.cri.stop(&id, 5).await.unwrap();
        node.cri.remove(&id).await.unwrap();
        let mut again = Reader::of(node).await;
        let event = again.expect(ContainerStoppedEvent, &id).await;
        assert_eq!(states(&event), [], "the pod as it is");
        again.expect(ContainerDeletedEvent, &id).await;
        node.cri.stop_pod(&pod.id).await.unwrap();
        again.expect(ContainerStoppedEvent, &pod.id).await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_daemon_that_is_told_to_stop_ends_the_stream() {
    in_a_node(async |node| {
        let mut reader = Reader::of(node).await;
        let (_, id) = node.idle().await;
        node.daemon.terminate().await;
        let told = reader.take(4).await;
        assert_eq!(told[3], (ContainerStartedEvent, id));
        assert_eq!(reader.next().await.unwrap(), None);
        node.start_daemon().await;
    });
}

/// A reader whose connection holds little, so that it is soon behind.
async fn small_reader() -> Reader {
    let endpoint = Endpoint::from_static("unix:///run/corten/corten.sock")
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535);
    let channel = endpoint.connect().await.unwrap();
    Reader::over(RuntimeServiceClient::new(channel)).await
}

/// What a container is told of that never ran: it is ended before it is removed.
const NEVER_RAN: [ContainerEventType; 3] = [
    ContainerCreatedEvent,
    ContainerStoppedEvent,
    ContainerDeletedEvent,
];

/// Makes and removes containers, and gives their ids.
async fn come_and_go(node: &Node, pod: &Pod) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..MANY {
        let container = pods::idle(&format!("c-{number}"));
        let id = node.cri.create(pod, &container).await.unwrap();
        node.cri.remove(&id).await.unwrap();
        ids.push(id);
    }
    ids
}

/// How many events there are before the error, and which.
async fn until_cut(reader: &mut Reader) -> (usize, Status) {
    let mut taken = 0;
    loop {
        match reader.next().await {
            Ok(event) => assert!(event.is_some(), "an end without an error"),
            Err(error) => return (taken, error),
        }
        taken += 1;
    }
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_who_does_not_read_is_cut_off_and_nobody_waits_for_it() {
    in_a_node(async |node| {
        tell_figures(node).await;
        let mut slow = small_reader().await;
        let mut quick = Reader::of(node).await;
        let mut large = pods::pod("pod");
        // Few of its events fill a small connection.
        large
            .annotations
            .insert("text".to_owned(), "x".repeat(16 << 10));
        let pod = node.run(large).await;
        let (ids, told) = tokio::join!(come_and_go(node, &pod), quick.take(2 + 3 * MANY));
        let of_one = |id: &String| NEVER_RAN.map(|kind| (kind, id.clone()));
        let whole = ids.iter().flat_map(of_one);
        assert!(told[2..].iter().cloned().eq(whole), "{told:?}");
        assert_eq!(figure("corten_container_event_readers_dropped_total"), 1);
        assert_eq!(figure("corten_container_event_readers"), 1);

        let (taken, end) = until_cut(&mut slow).await;
        assert!((1..3 * MANY).contains(&taken), "{taken}");
        assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
        assert!(end.message().contains("list"), "{end:?}");
        // It may come again, and others follow on.
        let mut again = small_reader().await;
        let id = node.launch(&pod, pods::idle("last")).await;
        for reader in [&mut quick, &mut again] {
            reader.expect(ContainerCreatedEvent, &id).await;
        }
    });
}
