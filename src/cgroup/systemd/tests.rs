//! Against a socket at which someone talks as systemd does.

use super::message::tests::said;
use super::message::{FIXED, MessageKind, Received, Writer, rest};
use super::*;
use crate::cgroup::scope::{ScopeOrder, Scopes};
use crate::error::{Error, Kind};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const JOB: &str = "/org/freedesktop/systemd1/job/4";
const OTHER: &str = "/org/freedesktop/systemd1/job/5";

/// What the fake does with one connection.
#[derive(Clone, Copy)]
enum Turn {
    /// Closes it before a word.
    HangUp,
    /// Takes the call, and closes it.
    Lose,
    /// Begins a job that ends so, after another's.
    Job(&'static str),
    /// Has nothing to do, and says so before it names the job.
    Early,
    /// Refuses.
    Refuse(&'static str),
    /// Does not answer.
    Hang,
    /// Does not know this user.
    Reject,
}

struct Fake {
    scopes: SystemdScopes,
    calls: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Fake {
    fn new(turns: &'static [Turn]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("private");
        let listener = UnixListener::bind(&socket).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&calls);
        tokio::spawn(async move {
            for turn in turns {
                let (stream, _) = listener.accept().await.unwrap();
                let member = play(stream, *turn).await;
                heard.lock().unwrap().extend(member);
            }
        });
        Self {
            scopes: SystemdScopes {
                socket,
                limit: LIMIT,
            },
            calls,
            _dir: dir,
        }
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    async fn start(&self) -> Result<(), ScopeError> {
        self.scopes.start(&order()).await
    }
}

fn order() -> ScopeOrder {
    ScopeOrder {
        unit: "corten-a.scope".to_owned(),
        slice: "system.slice".to_owned(),
        description: "pod a".to_owned(),
        pid: 77,
    }
}

/// The name of the method that was called.
async fn play(mut stream: UnixStream, turn: Turn) -> Option<String> {
    if matches!(turn, Turn::HangUp) {
        return None;
    }
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.unwrap());
    }
    assert!(line.starts_with(b"\0AUTH EXTERNAL 3"), "{line:?}");
    if matches!(turn, Turn::Reject) {
        stream.write_all(b"REJECTED EXTERNAL\r\n").await.unwrap();
        return None;
    }
    // Before any answer: systemd would read a message that follows it together with it, and let it lie.
    let mut begin = [0; 7];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"BEGIN\r\n");
    stream.write_all(b"OK 0123456789abcdef\r\n").await.unwrap();
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await.unwrap();
    let mut message = vec![0; FIXED + rest(&fixed).unwrap()];
    message[..FIXED].copy_from_slice(&fixed);
    stream.read_exact(&mut message[FIXED..]).await.unwrap();
    let member = Received::parse(&message).unwrap().member;
    for message in answers(turn) {
        stream.write_all(&message).await.unwrap();
    }
    if matches!(turn, Turn::Hang) {
        let _held = stream.read_u8().await;
    }
    Some(member)
}

fn answers(turn: Turn) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| {
        let mut body = Writer::default();
        texts.iter().for_each(|text| body.text(text));
        body
    };
    let removed = |job: &str, result: &str| {
        let mut body = Writer::default();
        body.number(4);
        [job, "corten-a.scope", result]
            .iter()
            .for_each(|text| body.text(text));
        said(MessageKind::Signal, 0, "JobRemoved", &body)
    };
    match turn {
        Turn::Job(result) => vec![
            said(MessageKind::Signal, 0, "UnitNew", &texts(&["a", "/a"])),
            said(MessageKind::Return, 1, "", &texts(&[JOB])),
            removed(OTHER, "canceled"),
            removed(JOB, result),
        ],
        Turn::Early => vec![
            removed(JOB, "done"),
            said(MessageKind::Return, 1, "", &texts(&[JOB])),
        ],
        Turn::Refuse(name) => vec![said(MessageKind::Error, 1, name, &texts(&["it says no"]))],
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_scope_is_there_when_its_own_job_is_done() {
    let fake = Fake::new(&[Turn::Job("done")]);
    fake.start().await.unwrap();
    assert_eq!(fake.calls(), ["StartTransientUnit"]);
}

#[tokio::test]
async fn a_job_that_fails_is_told_with_its_result() {
    let refused = Fake::new(&[Turn::Job("failed")]).start().await;
    let error = Error::from(refused.unwrap_err());
    assert_eq!(error.kind(), Kind::Internal);
    assert!(error.to_string().contains("ended as \"failed\""), "{error}");
    assert!(
        error
            .to_string()
            .contains("journalctl --unit corten-a.scope"),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_is_told_in_systemds_words() {
    let fake = Fake::new(&[Turn::Refuse("org.freedesktop.DBus.Error.InvalidArgs")]);
    let error = fake.start().await.unwrap_err().to_string();
    assert!(
        error.contains("start scope corten-a.scope: systemd refuses: it says no"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_is_made_again_and_what_it_began_is_joined() {
    let fake = Fake::new(&[Turn::HangUp, Turn::Lose, Turn::Refuse(EXISTS), Turn::Early]);
    fake.start().await.unwrap();
    let wanted = ["StartTransientUnit", "StartTransientUnit", "StartUnit"];
    assert_eq!(fake.calls(), wanted);
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_not_there_has_ended() {
    let fake = Fake::new(&[Turn::Lose, Turn::Refuse(ABSENT)]);
    fake.scopes.stop("corten-a.scope").await.unwrap();
    assert_eq!(fake.calls(), ["StopUnit", "StopUnit"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let fake = Fake::new(&[Turn::Hang]);
    let error = fake.start().await.unwrap_err();
    assert!(matches!(error, ScopeError::Slow { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("systemctl list-jobs"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_host_without_systemd_is_told_where_it_was_looked_for() {
    let scopes = SystemdScopes {
        socket: "/nonexistent/private".into(),
        limit: LIMIT,
    };
    let error = Error::from(scopes.stop("corten-a.scope").await.unwrap_err());
    assert_eq!(error.kind(), Kind::Unavailable);
    let told = error.chain();
    assert!(told.contains("/nonexistent/private"), "{told}");
    assert!(told.contains("No such file"), "{told}");
}

#[tokio::test]
async fn a_systemd_that_does_not_know_this_user_is_not_asked_again() {
    let error = Fake::new(&[Turn::Reject]).start().await.unwrap_err();
    let told = Error::from(error).chain();
    assert!(told.contains("REJECTED EXTERNAL"), "{told}");
}
