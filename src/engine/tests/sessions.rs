//! Sessions: who may ask for one, and what one is made of.

use super::{Bench, pod};
use crate::engine::session::{
    AttachSession, Ended, ExecSession, Joined, Kind as Place, PortForwardSession, Session, Wants,
};
use crate::error::Kind;
use crate::id::ContainerId;
use crate::model::container::ContainerConfig;
use crate::task::AttachOrder;
use corten_shim::api::ExecControl;
use futures::FutureExt;
use rustix::io::{read, write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BASE: &str = "http://127.0.0.1:10010";
const ALL: Wants = Wants {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

fn exec(id: &ContainerId, wants: Wants) -> ExecSession {
    ExecSession {
        container: id.as_str().to_owned(),
        command: vec!["ls".to_owned(), "-l".to_owned()],
        wants,
    }
}

fn attach(id: &ContainerId, wants: Wants) -> AttachSession {
    let container = id.as_str().to_owned();
    AttachSession { container, wants }
}

impl Bench {
    /// A container that runs, with a bundle of its own.
    async fn running(&self, change: impl FnOnce(&mut ContainerConfig)) -> ContainerId {
        let sandbox = self.run(pod("a")).await.unwrap();
        let mut config = self.container("main");
        change(&mut config);
        let created = self.engine.create_container(sandbox.as_str(), config).await;
        let id = created.unwrap();
        self.engine.start_container(id.as_str()).await.unwrap();
        id
    }

    async fn joined(&self, id: &ContainerId, wants: Wants) -> Joined {
        self.engine.run_exec(exec(id, wants)).await.unwrap()
    }
}

#[tokio::test]
async fn a_session_is_asked_for_at_one_place_and_begun_at_another() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let short = ExecSession {
        container: id.as_str()[..12].to_owned(),
        ..exec(&id, ALL)
    };
    let nobody = bench.engine.session_exec(short.clone()).unwrap_err();
    assert_eq!(nobody.kind(), Kind::Unavailable, "{nobody}");
    bench.engine.set_streaming_base(Ok(BASE.to_owned()));
    let url = bench.engine.session_exec(short).unwrap();
    let token = url.strip_prefix(&format!("{BASE}/exec/")).unwrap();
    let stops = Err("the daemon stops".to_owned());
    bench.engine.set_streaming_base(stops);
    let taken = bench.engine.take_session(Place::Exec, token);
    assert_eq!(taken, Some(Session::Exec(exec(&id, ALL))), "the whole id");
    assert_eq!(bench.engine.take_session(Place::Exec, token), None);
    let over = bench.engine.session_attach(attach(&id, ALL)).unwrap_err();
    assert_eq!(over.kind(), Kind::Unavailable, "{over}");
    assert!(over.chain().contains("the daemon stops"), "{over}");
}

#[tokio::test]
async fn only_what_runs_has_sessions() {
    let bench = Bench::new().await;
    bench.engine.set_streaming_base(Ok(BASE.to_owned()));
    let id = bench.with_container().await;
    let ghost = ContainerId::random();
    for (id, kind) in [(&id, Kind::FailedPrecondition), (&ghost, Kind::NotFound)] {
        let refused = bench.engine.session_exec(exec(id, ALL)).unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
        let refused = bench.engine.session_attach(attach(id, ALL)).unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
        let begun = bench.engine.run_exec(exec(id, ALL)).await;
        assert_eq!(begun.err().unwrap().kind(), kind);
        let begun = bench.engine.run_attach(attach(id, ALL)).await;
        assert_eq!(begun.err().unwrap().kind(), kind);
    }
}

#[tokio::test]
async fn who_asks_for_what_does_not_run_hears_its_state_and_what_to_do() {
    let bench = Bench::new().await;
    let created = bench.with_container().await;
    let said = |id: &ContainerId| {
        bench
            .engine
            .session_exec(exec(id, ALL))
            .unwrap_err()
            .chain()
    };
    let text = said(&created);
    for word in ["(main)", "created and not started", "crictl start"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let id = created.as_str();
    bench.engine.start_container(id).await.unwrap();
    bench.stop(&created, Duration::from_secs(5)).await;
    let text = said(&created);
    for word in ["exited with code 143 (Error)", "crictl logs"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let command = vec!["ls".to_owned()];
    let probe = bench.engine.exec_sync(id, command, None).await;
    assert_eq!(probe.unwrap_err().chain(), text);
}

#[tokio::test]
async fn ports_are_those_of_a_ready_pod() {
    let bench = Bench::new().await;
    bench.engine.set_streaming_base(Ok(BASE.to_owned()));
    let sandbox = bench.run(pod("a")).await.unwrap();
    let asked = |id: &str| PortForwardSession {
        sandbox: id.to_owned(),
        ports: vec![80],
    };
    let ask = |id: &str| bench.engine.session_port_forward(asked(id));
    let url = ask(&sandbox.as_str()[..10]).unwrap();
    let token = url.strip_prefix(&format!("{BASE}/portforward/")).unwrap();
    let taken = bench.engine.take_session(Place::PortForward, token);
    assert_eq!(taken, Some(Session::PortForward(asked(sandbox.as_str()))));
    let stopped = bench.engine.stop_pod_sandbox(sandbox.as_str()).await;
    stopped.unwrap();
    let refused = ask(sandbox.as_str()).unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    let text = refused.chain();
    assert!(
        text.contains("default/a") && text.contains("was stopped"),
        "{text}"
    );
    assert_eq!(ask("0123").unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn an_exec_has_its_clients_streams_and_tells_its_end() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let joined = bench.joined(&id, ALL).await;
    let process = bench.tasks.exec();
    let (mut stdin, mut stdout) = (joined.stdin.unwrap(), joined.stdout.unwrap());
    stdin.write_all(b"in").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert!(stdin.write_all(b"more").await.is_err());
    let mut heard = [0; 8];
    assert_eq!(read(&process.streams[0], &mut heard).unwrap(), 2);
    assert_eq!(read(&process.streams[0], &mut heard).unwrap(), 0, "closed");
    write(&process.streams[1], b"out").unwrap();
    write(&process.streams[2], b"err").unwrap();
    joined.process.resize(99, 33).await.unwrap();
    let (width, height) = (99, 33);
    assert_eq!(process.told(), Some(ExecControl::Resize { width, height }));
    process.exit(7);
    let other = joined.process.clone();
    assert_eq!(other.wait().await.unwrap(), Ended::Exited { code: 7 });
    assert_eq!(
        joined.process.wait().await.unwrap(),
        Ended::Exited { code: 7 }
    );
    let mut said = String::new();
    // The process's own ends are still open, as a background child holds them.
    stdout.read_to_string(&mut said).await.unwrap();
    joined
        .stderr
        .unwrap()
        .read_to_string(&mut said)
        .await
        .unwrap();
    assert_eq!(said, "outerr");
}

#[tokio::test]
async fn an_exec_that_is_dropped_is_told_by_the_end_of_its_socket() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let joined = bench.joined(&id, ALL).await;
    let process = bench.tasks.exec();
    let copy = joined.process.clone();
    drop(joined);
    copy.resize(1, 1).await.unwrap();
    assert!(process.told().is_some(), "somebody has it still");
    drop(copy);
    let told = tokio::task::spawn_blocking(move || process.told()).await;
    assert_eq!(told.unwrap(), None);
}

#[tokio::test]
async fn an_output_that_nobody_wants_holds_nothing_up() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let wants = Wants {
        stdout: true,
        ..Wants::default()
    };
    let mut joined = bench.joined(&id, wants).await;
    let mut process = bench.tasks.exec();
    assert!(joined.stdin.is_none() && joined.stderr.is_none());
    let (stdout, stderr) = (process.streams.remove(0), process.streams.remove(0));
    let said = tokio::task::spawn_blocking(move || {
        let complaint = vec![b'x'; 1 << 20];
        std::io::Write::write_all(&mut std::fs::File::from(stderr), &complaint).unwrap();
        write(&stdout, b"done").unwrap();
    });
    said.await.unwrap();
    let mut out = String::new();
    let stdout = joined.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "done");
}

/// A child that was left in the background and never rests.
#[tokio::test]
async fn who_goes_on_writing_after_the_end_is_not_heard_for_ever() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let mut joined = bench.joined(&id, ALL).await;
    let mut process = bench.tasks.exec();
    let stdout = process.streams.remove(1);
    let child = tokio::task::spawn_blocking(move || while write(&stdout, &[b'x'; 4096]).is_ok() {});
    process.exit(0);
    let mut stdout = joined.stdout.take().unwrap();
    tokio::io::copy(&mut stdout, &mut tokio::io::sink())
        .await
        .unwrap();
    drop(stdout);
    child.await.unwrap();
}

#[tokio::test]
async fn a_slow_client_gets_all_that_was_said_before_the_end() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let mut joined = bench.joined(&id, ALL).await;
    let process = bench.tasks.exec();
    let full = vec![b'x'; 60_000];
    write(&process.streams[1], &full).unwrap();
    process.exit(0);
    joined.process.wait().await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let mut said = Vec::new();
    joined
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut said)
        .await
        .unwrap();
    assert_eq!(said.len(), full.len());
}

#[tokio::test]
async fn who_attaches_gets_what_the_container_has() {
    let bench = Bench::new().await;
    let id = bench.running(|config| config.stdin = true).await;
    let joined = bench.engine.run_attach(attach(&id, ALL)).await.unwrap();
    let container = bench.tasks.attached();
    let asked = AttachOrder {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    assert_eq!(container.order, asked);
    joined.stdin.unwrap().write_all(b"in").await.unwrap();
    assert_eq!(read(&container.streams[0], &mut [0u8; 8]).unwrap(), 2);
    joined.process.resize(80, 24).await.unwrap();
    assert_eq!(bench.tasks.sizes(), [(80, 24)]);
    bench.stop(&id, Duration::from_secs(5)).await;
    assert_eq!(joined.process.wait().await.unwrap(), Ended::Gone);
}

/// Its container's ends stay open, and say more after that.
#[tokio::test]
async fn who_has_sent_its_last_to_a_stdin_for_many_is_let_go_with_what_was_said() {
    let bench = Bench::new().await;
    let id = bench.running(|config| config.stdin = true).await;
    let joined = bench.engine.run_attach(attach(&id, ALL)).await.unwrap();
    let container = bench.tasks.attached();
    write(&container.streams[1], b"so far").unwrap();
    let mut stdin = joined.stdin.unwrap();
    stdin.write_all(b"last word").await.unwrap();
    stdin.shutdown().await.unwrap();
    joined.process.stdin_ended();
    assert_eq!(joined.process.wait().await.unwrap(), Ended::Detached);
    assert_eq!(read(&container.streams[0], &mut [0u8; 16]).unwrap(), 9);
    let mut said = String::new();
    let mut stdout = joined.stdout.unwrap();
    stdout.read_to_string(&mut said).await.unwrap();
    let mut stderr = joined.stderr.unwrap();
    stderr.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "so far");
}

/// As containerd has it.
#[tokio::test]
async fn whether_a_client_goes_after_its_last_word_is_the_containers_to_say() {
    let typing = Wants {
        stdin: true,
        ..Wants::default()
    };
    let listening = Wants {
        stdin: false,
        ..ALL
    };
    // (stdin, stdin_once, tty), the client, and whether it goes.
    let table = [
        ((true, false, false), ALL, true),
        ((true, true, false), ALL, false),
        ((true, true, false), typing, true),
        ((true, false, true), ALL, true),
        ((true, true, true), ALL, true),
        ((false, false, false), ALL, false),
        ((false, false, true), ALL, false),
        ((false, false, false), typing, true),
        ((true, false, false), listening, false),
    ];
    for ((stdin, stdin_once, tty), wants, goes) in table {
        let bench = Bench::new().await;
        let id = bench.running(|config| {
            (config.stdin, config.stdin_once, config.tty) = (stdin, stdin_once, tty);
        });
        let id = id.await;
        let joined = bench.engine.run_attach(attach(&id, wants)).await.unwrap();
        let _container = bench.tasks.attached();
        joined.process.stdin_ended();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let went = joined.process.wait().now_or_never().is_some();
        assert_eq!(went, goes, "{stdin} {stdin_once} {tty} {wants:?}");
    }
}

#[tokio::test]
async fn who_types_to_a_container_without_stdin_is_let_in() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let joined = bench.engine.run_attach(attach(&id, ALL)).await.unwrap();
    assert!(!bench.tasks.attached().order.stdin);
    let mut stdin = joined.stdin.unwrap();
    stdin.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
    stdin.shutdown().await.unwrap();
}

#[tokio::test]
async fn who_does_not_read_hears_that_it_was_too_slow() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let joined = bench.engine.run_attach(attach(&id, ALL)).await.unwrap();
    bench.tasks.attached().cut.send(()).unwrap();
    assert_eq!(joined.process.wait().await.unwrap(), Ended::TooSlow);
}

#[tokio::test]
async fn who_does_not_read_what_was_said_last_hears_that_too() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let joined = bench.engine.run_attach(attach(&id, ALL)).await.unwrap();
    let container = bench.tasks.attached();
    bench.stop(&id, Duration::from_secs(5)).await;
    assert_eq!(joined.process.wait().await.unwrap(), Ended::Gone);
    container.cut.send(()).unwrap();
    while joined.process.wait().await.unwrap() != Ended::TooSlow {
        tokio::task::yield_now().await;
    }
}

/// Its shim would have told a connection that is not there any more.
#[tokio::test]
async fn who_does_not_read_hears_that_it_was_too_slow_after_its_shim_was_found_again() {
    let bench = Bench::new().await;
    let id = bench.running(|_| ()).await;
    let joined = bench.engine.run_attach(attach(&id, ALL)).await.unwrap();
    let container = bench.tasks.attached();
    tokio::time::pause();
    drop((container.cut, container.streams));
    // A container may close its own streams.
    let soon = Duration::from_secs(60);
    let told = tokio::time::timeout(soon, joined.process.wait()).await;
    assert!(told.is_err(), "{told:?}");
    bench.tasks.count_slow_client();
    let told = tokio::time::timeout(soon, joined.process.wait()).await;
    assert_eq!(told.expect("it is told").unwrap(), Ended::TooSlow);
}

/// The dialer is the real one, on a thread: it dials this host.
#[tokio::test]
async fn a_dialer_connects_many_times_until_its_pod_stops() {
    let bench = Bench::new().await;
    let sandbox = bench.run(pod("web")).await.unwrap();
    let dialer = bench.engine.dialer(sandbox.as_str()).await.unwrap();
    let record = bench.engine.pod_sandbox_status(sandbox.as_str()).unwrap();
    let network = record.sandbox.namespaces.network.clone();
    assert_eq!(bench.tasks.dialled(), Some(network));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for _ in 0..3 {
        let (made, accepted) = tokio::join!(dialer.connect(port), listener.accept());
        accepted.unwrap().0.write_all(b"hello").await.unwrap();
        let mut said = String::new();
        made.unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");
    }
    drop(listener);
    let refused = dialer.connect(port).await.unwrap_err().chain();
    let nothing = format!("nothing listens on 127.0.0.1:{port} or [::1]:{port} in the pod");
    for word in ["pod default/web", &nothing, "refused"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    assert!(!refused.contains("shim"), "{refused}");
    let stopped = bench.engine.stop_pod_sandbox(sandbox.as_str()).await;
    stopped.unwrap();
    dialer.gone().await;
    let over = bench.engine.dialer(sandbox.as_str()).await.err().unwrap();
    assert_eq!(over.kind(), Kind::FailedPrecondition);
}
