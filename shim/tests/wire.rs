//! What the protocol looks like on the wire: messages of each kind, byte by byte as they were when they were written down.
//!
//! They are the corpus of the fuzz targets `shim_reads` and `daemon_reads` (tests/fuzz, whose `wire.rs` says how a file of
//! packets is laid out). A file that differs is a message that a daemon or a shim of another version misreads: such a
//! change takes a new version (`api::NEWEST`). What the processes of one shim say to each other (`own`) may change freely.
//! `CORTEN_WRITE_CORPUS=1 cargo test -p corten-shim --test wire` writes them.

use corten_shim::api::{
    Answer, Call, CreateRequest, DialRequest, DialWish, Event, EventKind, ExecControl, ExecRequest,
    ExitReason, ExitRecord, Failure, FailureKind, Health, IdMap, IdMaps, Lap, Message, Part,
    PinRequest, Pins, ProcessName, Reply, Request, SandboxRequest, State, Status, User,
};
use corten_shim::sync::{FromInit, FromStage, Made, ToStage};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A file of packets in the making.
#[derive(Default)]
struct Packets(Vec<u8>);

impl Packets {
    /// Adds one, of a kind that `shim_reads` numbers, with so many descriptors beside it.
    fn add(mut self, kind: u8, descriptors: u8, message: &impl Serialize) -> Self {
        let body = postcard::to_stdvec(message).expect("it can be encoded");
        let length = u16::try_from(body.len())
            .expect("it is small")
            .to_le_bytes();
        self.0.extend([descriptors << 4, kind]);
        self.0.extend(length);
        self.0.extend(body);
        self
    }

    /// The last one's body goes in a memfd.
    fn in_memfd(mut self, message: &impl Serialize) -> Self {
        let at = self.0.len();
        self = self.add(0, 1, message);
        self.0[at] |= 1;
        self
    }
}

fn calls() -> Packets {
    let requests = [
        Request::Hello {
            oldest: 1,
            newest: 1,
        },
        Request::Prepare {
            id: "0a".repeat(32),
            cgroup: "/kubepods/pod7/0a".into(),
        },
        Request::Create(create()),
        Request::Start,
        Request::Status,
        Request::Resize {
            width: 80,
            height: 24,
        },
        Request::Signal { signal: 34 },
        Request::ReopenLog,
        Request::Attach {
            stdin: true,
            stdout: true,
            stderr: false,
        },
        Request::Update {
            resources: r#"{"pids":{"limit":10}}"#.into(),
        },
        Request::Health,
        Request::Acknowledge { up_to: 300 },
        Request::Shutdown,
    ];
    let call = |packets: Packets, (id, request)| packets.add(0, 0, &Call { id, request });
    (1..).zip(requests).fold(Packets::default(), call)
}

fn create() -> CreateRequest {
    CreateRequest {
        id: "0a".repeat(32),
        bundle: "/run/corten/containers/0a".into(),
        log_path: Some("/var/log/pods/p/./c/0.log".into()),
        stdin: true,
        stdin_once: false,
        seccomp_filter: Some("/run/corten/seccomp/default".into()),
        exit_record: "/var/lib/corten/containers/0a/exit.json".into(),
        bare: Some("/proc/7/fd/9".into()),
    }
}

/// To the other verbs of the binary.
fn others() -> Packets {
    let sealed = "/usr/local/libexec/corten/corten-shim";
    let size = ExecControl::Resize {
        width: 1,
        height: 2,
    };
    Packets::default()
        .add(2, 1, &exec())
        .add(3, 0, &size)
        .add(3, 0, &ExecControl::Signal { signal: 9 })
        .add(4, 0, &SandboxRequest::Pin(pin()))
        .add(4, 0, &SandboxRequest::Unpin(pin().pins))
        .add(4, 0, &SandboxRequest::Probe("/var/lib/corten".into()))
        .add(4, 0, &SandboxRequest::Seal(sealed.into()))
        .add(4, 0, &SandboxRequest::Bare)
        .add(5, 1, &dial(1, DialWish::Join))
        .add(5, 0, &dial(2, DialWish::Sockets))
        .add(5, 1, &dial(3, DialWish::Rest))
}

/// Between the processes of one shim.
fn own() -> Packets {
    let prepare = ToStage::Prepare {
        id: "0a".repeat(32),
        cgroup: "/kubepods/pod7/0a".into(),
    };
    let failed = FromStage::Failed {
        failure: failure(),
        init: Some(8),
    };
    let settled = FromInit::Settled {
        laps: laps(),
        worked: 1_700_000,
    };
    Packets::default()
        .add(1, 0, &prepare)
        .add(1, 0, &ToStage::Create(create()))
        .add(6, 4, &FromStage::Made(made()))
        .add(6, 0, &failed)
        .add(7, 1, &FromInit::Terminal)
        .add(7, 0, &FromInit::Placed)
        .add(7, 0, &FromInit::Listener(5))
        .add(7, 0, &FromInit::Ready { laps: laps() })
        .add(7, 0, &settled)
        .add(7, 0, &FromInit::Failed(failure()))
        .add(8, 1, &Ok::<i32, Failure>(7))
        .add(8, 0, &Err::<i32, Failure>(failure()))
}

fn laps() -> Vec<Lap> {
    let lap = |part, micros| Lap { part, micros };
    vec![lap(Part::Cgroup, 300), lap(Part::Mounts, 70_000)]
}

fn exec() -> ExecRequest {
    ExecRequest {
        pid: 7,
        bundle: "/run/corten/containers/0a".into(),
        process: r#"{"args":["true"],"cwd":"/"}"#.into(),
        seccomp_filter: None,
        stdin: true,
        timeout_ms: 1500,
    }
}

fn pin() -> PinRequest {
    let at = |name: &str| Some(PathBuf::from("/run/corten/pods/0a").join(name));
    let ids = vec![IdMap {
        inside: 0,
        outside: 100_000,
        length: 65_536,
    }];
    PinRequest {
        pins: Pins {
            user: at("user"),
            network: Some("/run/netns/corten-0a".into()),
            ipc: at("ipc"),
            uts: at("uts"),
            pid: at("pid"),
            shm: at("shm"),
            holder: Some(ProcessName {
                pid: 7,
                start_time: 1_000_000,
            }),
        },
        ids: Some(IdMaps {
            uids: ids.clone(),
            gids: ids,
        }),
        hostname: "web-0".into(),
        sysctls: vec![("net.core.somaxconn".into(), "9".into())],
        shm_size: 64 << 20,
        cgroup: Some("/corten/shims".into()),
        scoped: true,
    }
}

fn dial(id: u64, wish: DialWish) -> DialRequest {
    DialRequest { id, wish }
}

fn made() -> Made {
    Made {
        pid: 8,
        start_time: 1_000_001,
        user: user(),
        has_deputy: true,
        laps: laps(),
    }
}

fn user() -> User {
    User {
        uid: 33,
        gid: 33,
        groups: vec![33, 1234],
    }
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::Mount,
        step: "mount /proc".into(),
        errno: 1,
        chain: vec!["Operation not permitted".into()],
    }
}

fn status(state: State, exit: Option<ExitRecord>) -> Status {
    Status {
        state,
        pid: 8,
        start_time: 1_000_001,
        started_at: 1_700_000_000_000_000_000,
        user: Some(user()),
        exit,
    }
}

fn timed() -> Reply {
    Reply::Timed {
        status: status(State::Created, None),
        laps: laps(),
    }
}

fn ended(reason: ExitReason) -> ExitRecord {
    ExitRecord {
        pid: 8,
        code: 137,
        signal: Some(9),
        reason,
        message: "killed".into(),
        started_at: 1_700_000_000_000_000_000,
        finished_at: 1_700_000_000_500_000_000,
    }
}

fn answer(id: u64, result: Result<Reply, Failure>) -> Message {
    Message::Answer(Answer { id, result })
}

fn event(seq: u64, kind: EventKind) -> Message {
    Message::Event(Event { seq, kind })
}

const HELLO: Reply = Reply::Hello { version: 2, pid: 7 };

/// A daemon is greeted, is told of a container, and of its end.
fn a_life() -> Packets {
    Packets::default()
        .add(0, 0, &answer(1, Ok(HELLO)))
        .add(
            0,
            1,
            &answer(2, Ok(Reply::Status(status(State::Running, None)))),
        )
        .add(0, 0, &event(1, EventKind::OutOfMemory))
        .add(0, 3, &answer(3, Ok(Reply::Attached)))
        .add(0, 0, &answer(3, Err(failure())))
        .add(
            0,
            0,
            &event(2, EventKind::Exited(ended(ExitReason::OomKilled))),
        )
        .add(0, 0, &answer(4, Ok(Reply::Health(Health::default()))))
        .add(0, 0, &answer(5, Ok(Reply::Done)))
        .add(0, 1, &answer(6, Ok(timed())))
}

/// Answers that nobody waits for, and a refusal.
fn odd() -> Packets {
    let exited = status(State::Exited, Some(ended(ExitReason::StartError)));
    Packets::default()
        .add(0, 0, &answer(9, Ok(Reply::Done)))
        .in_memfd(&answer(1, Ok(HELLO)))
        .add(0, 0, &answer(1, Ok(HELLO)))
        .add(0, 0, &answer(2, Err(failure())))
        .add(0, 1, &answer(3, Ok(Reply::Status(exited))))
}

fn refused() -> Packets {
    Packets::default().add(0, 0, &answer(1, Err(failure())))
}

#[test]
fn messages_are_written_as_they_were() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    for (name, packets) in [
        ("shim_reads/calls", calls()),
        ("shim_reads/others", others()),
        ("shim_reads/own", own()),
        ("daemon_reads/life", a_life()),
        ("daemon_reads/odd", odd()),
        ("daemon_reads/refused", refused()),
    ] {
        let path = corpus.join(name);
        if std::env::var_os("CORTEN_WRITE_CORPUS").is_some() {
            std::fs::write(&path, &packets.0).unwrap();
        }
        let written = std::fs::read(&path).unwrap();
        assert!(
            written == packets.0,
            "{name} has other messages now: see this file's head"
        );
    }
}
