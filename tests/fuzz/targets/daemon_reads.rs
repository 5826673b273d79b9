//! Whatever a shim says to the daemon: every call ends, an answer reaches who asked with its number and nobody else, each
//! event is told once and in order, the shim's end last, and no descriptor is left open.
#![no_main]

#[path = "../../../src/error.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod error;
#[path = "../../../src/id.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod id;
#[path = "../wire.rs"]
#[allow(dead_code, reason = "the other side's target uses all of it")]
mod wire;

/// As the daemon's, as far as the connection to a shim needs it.
#[path = "../../../src/task"]
mod task {
    #[allow(dead_code, reason = "the daemon uses all of it")]
    pub mod client;
    #[allow(dead_code, reason = "the daemon uses all of it")]
    pub mod socket;

    use crate::id::ContainerId;
    use corten_shim::api::{ExitRecord, Failure};

    #[derive(Debug)]
    #[allow(dead_code, reason = "some of it is only made")]
    pub enum TaskError {
        Protocol {
            verb: &'static str,
        },
        Gone {
            verb: &'static str,
        },
        Socket {
            verb: &'static str,
            source: std::io::Error,
        },
        Refused {
            verb: &'static str,
            failure: Failure,
        },
    }

    #[derive(Debug)]
    #[allow(dead_code, reason = "it is only made")]
    pub enum TaskEvent {
        Container {
            container: ContainerId,
            kind: TaskEventKind,
        },
    }

    #[derive(Debug)]
    #[allow(dead_code, reason = "it is only made")]
    pub enum TaskEventKind {
        Exited {
            exit: i32,
            started_at: i64,
            seq: u64,
        },
        OutOfMemory {
            seq: u64,
        },
        ShimLost,
    }

    pub fn exit_of(record: &ExitRecord) -> i32 {
        record.code
    }
}

use corten_shim::api::{Answer, Message, Reply, Request};
use id::ContainerId;
use libfuzzer_sys::fuzz_target;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use task::client::Client;
use task::socket::PacketSocket;
use task::{TaskEvent, TaskEventKind};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use wire::{Heard, Packet, open_descriptors, packets};

fuzz_target!(|input: &[u8]| {
    let before = open_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_io().build();
    runtime
        .expect("a runtime")
        .block_on(connection(&packets(input)));
    assert_eq!(open_descriptors(), before);
});

async fn connection(packets: &[Packet<'_>]) {
    let (ours, theirs) = PacketSocket::pair().expect("sockets");
    let (events, told) = mpsc::unbounded_channel();
    let (replies, ()) = tokio::join!(calls(ours, events), shim(theirs, packets));
    let said = said(packets);
    for (id, reply) in replies.iter().flatten() {
        let answered = |answer: &Answer| answer.id == *id && answer.result.as_ref() == Ok(reply);
        assert!(said.answers.iter().any(answered), "{id}: {reply:?}");
    }
    news(told, &said, replies.is_some()).await;
}

/// Who was never greeted hears no more; else it is all of it, and the end.
async fn news(mut told: mpsc::UnboundedReceiver<TaskEvent>, said: &Said, greeted: bool) {
    let mut expected = said.events.iter();
    let mut lost = false;
    while let Some(TaskEvent::Container { kind, .. }) = told.recv().await {
        assert!(!lost, "the end comes last");
        match kind {
            TaskEventKind::Exited { seq, .. } | TaskEventKind::OutOfMemory { seq } => {
                assert_eq!(expected.next(), Some(&seq));
            }
            TaskEventKind::ShimLost => lost = true,
        }
    }
    assert!(!greeted || (lost && expected.next().is_none()));
}

/// What a daemon asks: a greeting, and if that is answered, two calls at once. All end. Gives the replies with the numbers
/// of the calls.
async fn calls(
    socket: PacketSocket,
    events: mpsc::UnboundedSender<TaskEvent>,
) -> Option<Vec<(u64, Reply)>> {
    let client = Client::open(socket, ContainerId::random(), events)
        .await
        .ok()?;
    let (again, _twice) = oneshot::channel();
    let (status, start) = tokio::join!(
        client.call("status", Request::Status),
        client.call_twice("start", Request::Start, again),
    );
    while !client.is_lost() {
        yield_now().await;
    }
    // The listener ends when it has told of that.
    yield_now().await;
    let replies = [(2, status), (3, start)].into_iter();
    Some(
        replies
            .filter_map(|(id, ended)| Some((id, ended.ok()?.0)))
            .collect(),
    )
}

/// Says it all, and goes.
async fn shim(socket: OwnedFd, packets: &[Packet<'_>]) {
    for packet in packets {
        while packet.send(&socket) == Err(Errno::AGAIN) {
            yield_now().await;
        }
        yield_now().await;
    }
}

struct Said {
    answers: Vec<Answer>,
    events: Vec<u64>,
}

/// What a plain reading makes of the packets, up to the first that is no message.
fn said(packets: &[Packet<'_>]) -> Said {
    let message = |packet: &Packet<'_>| match packet.heard() {
        Heard::Message(body, _) => postcard::from_bytes(body).ok(),
        Heard::Nonsense | Heard::End => None,
    };
    let mut said = Said {
        answers: Vec::new(),
        events: Vec::new(),
    };
    for message in packets.iter().map_while(message) {
        match message {
            Message::Answer(answer) => said.answers.push(answer),
            Message::Event(event) => said.events.push(event.seq),
        }
    }
    said
}
