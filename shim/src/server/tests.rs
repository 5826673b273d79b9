mod peer;

use super::*;
use crate::api::{
    Answer, Call, CreateRequest, ExitReason, FailureKind, NEWEST, Reply, Request, State,
};
use crate::fakes::parent::Parent;
use crate::packet;
use peer::{Running, script, serve, serve_for};
use rustix::event::eventfd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_life_from_create_to_shutdown() {
    let mut shim = Running::created(script("echo out; echo err >&2; printf rest; exit 3"));
    let (status, fds) = shim.daemon.status();
    assert_eq!((status.state, fds.len()), (State::Created, 1));
    assert_eq!(status.user.unwrap().groups, [9]);
    shim.daemon.ok(Request::Start);
    let record = shim.daemon.exited();
    assert_eq!((record.code, record.reason), (3, ExitReason::Error));
    assert!(record.started_at > 0 && record.finished_at >= record.started_at);
    assert_eq!(shim.record(), record);
    let mut log = shim.log();
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout P rest"]);
    let (status, fds) = shim.daemon.status();
    assert_eq!((status.state, fds.len()), (State::Exited, 0));
    assert_eq!(status.exit, Some(record));
    shim.shut();
}

#[test]
fn the_first_call_is_hello_and_versions_must_meet() {
    let mut shim = serve(Parent::default());
    assert_eq!(shim.daemon.failed(Request::Status).kind, FailureKind::State);
    let future = Request::Hello {
        oldest: NEWEST + 1,
        newest: NEWEST + 2,
    };
    assert_eq!(shim.daemon.failed(future).kind, FailureKind::Version);
    shim.daemon.hello();
    assert_eq!(shim.daemon.status().0.state, State::Empty);
    shim.shut();
}

#[test]
fn verbs_that_do_not_fit_the_state_are_refused() {
    let mut shim = serve(script("exec sleep 60"));
    shim.daemon.hello();
    let attach = Request::Attach {
        stdin: false,
        stdout: true,
        stderr: false,
    };
    for early in [Request::Start, Request::ReopenLog, attach.clone()] {
        assert_eq!(shim.daemon.failed(early).kind, FailureKind::State);
    }
    let request = shim.request();
    shim.daemon.ok(Request::Create(request.clone()));
    assert_eq!(
        shim.daemon.failed(Request::Create(request)).kind,
        FailureKind::State
    );
    shim.daemon.ok(Request::Start);
    assert_eq!(shim.daemon.failed(Request::Start).kind, FailureKind::State);
    assert_eq!(
        shim.daemon.status().0.state,
        State::Running,
        "a second Start harms nothing"
    );
    shim.daemon.ok(Request::Update {
        resources: "{}".into(),
    });
    assert_eq!(
        shim.daemon
            .failed(Request::Update {
                resources: "?".into()
            })
            .kind,
        FailureKind::Invalid
    );
    shim.shut();
}

#[test]
fn a_creation_that_fails_may_be_tried_again() {
    let broken = Failure::invalid("read the bundle", "it is empty");
    let mut shim = serve(Parent {
        broken: Some(broken.clone()),
        ..Parent::default()
    });
    shim.daemon.hello();
    let request = shim.request();
    assert_eq!(shim.daemon.failed(Request::Create(request.clone())), broken);
    let other = CreateRequest {
        id: "5678".to_owned(),
        ..request
    };
    assert_eq!(
        shim.daemon.failed(Request::Create(other)).kind,
        FailureKind::Invalid
    );
    assert_eq!(shim.daemon.status().0.state, State::Empty);
    shim.shut();
}

#[test]
fn a_daemon_of_the_version_before_is_told_no_times() {
    let mut shim = serve(script("exit 0"));
    shim.daemon.greet(1);
    let request = shim.request();
    for step in [Request::Create(request), Request::Start] {
        let (reply, _) = shim.daemon.ok(step);
        assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
    }
    shim.shut();
}

#[test]
fn what_is_prepared_for_no_container_is_given_up() {
    let prepared = Arc::default();
    let prepare = || {
        let mut shim = serve(Parent {
            prepared: Arc::clone(&prepared),
            ..Parent::default()
        });
        shim.daemon.hello();
        let id = shim.request().id;
        let cgroup = "/pods/one".to_owned();
        shim.daemon.ok(Request::Prepare { id, cgroup });
        assert_eq!(prepared.lock().unwrap().as_deref(), Some("/pods/one"));
        shim
    };
    let mut told = prepare();
    told.daemon.ok(Request::Shutdown);
    assert_eq!(*prepared.lock().unwrap(), None, "before it is answered");
    told.thread.join().unwrap();
    let left = prepare();
    drop(left.daemon);
    left.thread.join().unwrap();
    assert_eq!(*prepared.lock().unwrap(), None, "when its daemon has gone");
}

#[test]
fn a_program_that_cannot_be_executed_is_on_disk_before_the_answer() {
    let unstartable = Failure {
        kind: FailureKind::Start,
        ..Failure::invalid("execve", "no such file")
    };
    let mut shim = Running::created(Parent {
        unstartable: Some(unstartable.clone()),
        ..script("exit 0")
    });
    assert_eq!(shim.daemon.failed(Request::Start), unstartable);
    let record = shim.record();
    assert_eq!((record.code, record.reason), (128, ExitReason::StartError));
    assert!(record.message.contains("no such file"));
    assert_eq!(record.started_at, 0);
    assert_eq!(shim.daemon.exited(), record);
    shim.shut();
}

/// A shim that is killed while it still reads the streams takes no exit code with it.
#[test]
fn the_record_is_on_disk_before_the_streams_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let request = CreateRequest {
        id: "1234".to_owned(),
        bundle: dir.path().to_owned(),
        log_path: None,
        stdin: false,
        stdin_once: false,
        seccomp_filter: None,
        exit_record: dir.path().join("exit.json"),
        bare: None,
    };
    let (mut container, _) = Container::create(&mut script("echo out; exit 6"), &request).unwrap();
    container.start().unwrap();
    let init = container.pidfd().unwrap();
    poll(&mut [PollFd::new(&init, PollFlags::IN)], None).unwrap();
    container.look_at_init();
    let text = std::fs::read(&request.exit_record).unwrap();
    let record: crate::api::ExitRecord = serde_json::from_slice(&text).unwrap();
    assert_eq!(record.code, 6);
    assert_eq!(container.settle(), Some(record));
}

#[test]
fn a_signal_is_128_and_its_number() {
    let mut shim = Running::created(script("kill -9 $$"));
    shim.daemon.ok(Request::Start);
    let record = shim.daemon.exited();
    assert_eq!((record.code, record.signal), (137, Some(9)));
    assert_eq!(
        record.reason,
        ExitReason::Error,
        "the counter has not moved"
    );
    shim.shut();
}

#[test]
fn the_counter_tells_a_kill_for_memory() {
    let kills = Arc::new(AtomicU64::new(5));
    let oom = eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let parent = Parent {
        memory_kills: Arc::clone(&kills),
        oom: Some(oom.try_clone().unwrap()),
        ..script("exec sleep 60")
    };
    let mut shim = Running::created(parent);
    shim.daemon.ok(Request::Start);
    kills.store(6, Ordering::SeqCst);
    rustix::io::write(&oom, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(shim.daemon.event().kind, EventKind::OutOfMemory);
    assert_eq!(shim.daemon.health().oom_kills, 6);
    let pidfd = shim.daemon.status().1.remove(0);
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(shim.daemon.exited().reason, ExitReason::OomKilled);
    shim.shut();
}

#[test]
fn events_come_again_until_they_are_acknowledged() {
    let mut shim = Running::created(script("exit 0"));
    shim.daemon.ok(Request::Start);
    let first = shim.daemon.event();
    assert_eq!(first.seq, 1);
    let mut second = shim.connect();
    second.hello();
    assert_eq!(second.event(), first);
    assert_eq!(second.health().unacknowledged, 1);
    second.ok(Request::Acknowledge { up_to: 1 });
    let mut third = shim.connect();
    third.hello();
    assert_eq!(third.health().unacknowledged, 0);
    assert!(third.events.is_empty());
    shim.shut();
}

#[test]
fn a_daemon_that_goes_away_disturbs_nothing() {
    let mut shim = Running::created(script("echo a; exec sleep 60"));
    shim.daemon.ok(Request::Start);
    let pidfd = shim.daemon.status().1.remove(0);
    while shim.daemon.health().logged_bytes == 0 {}
    shim.daemon = shim.connect(); // closes the first
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::TERM).unwrap();
    shim.daemon.hello();
    let record = shim.daemon.exited();
    assert_eq!(record.signal, Some(15));
    assert_eq!(shim.log(), ["stdout F a"]);
    shim.shut();
}

#[test]
fn a_real_time_signal_reaches_the_init() {
    let mut shim = Running::created(script("exec sleep 60"));
    shim.daemon.ok(Request::Start);
    shim.daemon.ok(Request::Signal { signal: 37 });
    assert_eq!(shim.daemon.exited().signal, Some(37));
    shim.daemon.ok(Request::Signal { signal: 37 });
    shim.shut();
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_and_others_are_served() {
    let mut shim = Running::created(script("exec sleep 60"));
    let mut deaf = shim.connect();
    deaf.hello();
    let call = |id| Call {
        id,
        request: Request::Health,
    };
    rustix::io::ioctl_fionbio(&deaf.socket, true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let cut = loop {
        match packet::send(&deaf.socket, &call(9), &[]) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                shim.daemon.health(); // the shim goes on
            }
            Err(error) => break error,
        }
        assert!(Instant::now() < deadline, "it is to be cut off");
    };
    // Reset: the shim has left calls unread.
    let gone = [
        std::io::ErrorKind::BrokenPipe,
        std::io::ErrorKind::ConnectionReset,
    ];
    assert!(gone.contains(&cut.kind()), "{cut}");
    shim.daemon.health();
    shim.shut();
}

#[test]
fn a_call_is_answered_while_the_container_floods() {
    let mut shim = Running::created(script("exec yes"));
    shim.daemon.ok(Request::Start);
    let call = shim.daemon.send(Request::Attach {
        stdin: false,
        stdout: true,
        stderr: false,
    });
    let (attached, fds) = shim.daemon.next();
    let answer = |result| Message::Answer(Answer { id: call, result });
    assert_eq!(attached, answer(Ok(Reply::Attached)));
    let mut buffer = [0u8; 2];
    let mut fds = fds.into_iter();
    let stdout = fds.next().unwrap();
    rustix::event::poll(&mut [PollFd::new(&stdout, PollFlags::IN)], None).unwrap();
    assert_eq!(rustix::io::read(&stdout, &mut buffer).unwrap(), 2);
    assert_eq!(shim.daemon.health().attached, 1);
    // Nobody reads on: the client is cut and told so, the log goes on.
    let mut other = shim.connect();
    other.hello();
    let before = other.health().logged_bytes;
    while other.health().slow_clients == 0 {}
    while other.health().logged_bytes <= before {}
    let Message::Answer(Answer { id, result }) = shim.daemon.next().0 else {
        panic!("an answer was to come");
    };
    assert_eq!((id, result.unwrap_err().kind), (call, FailureKind::State));
    shim.shut();
}

#[test]
fn a_reopened_log_is_there_when_the_answer_is() {
    let mut shim = Running::created(script("exec sleep 60"));
    shim.daemon.ok(Request::Start);
    let log = shim.dir.path().join("0.log");
    std::fs::rename(&log, shim.dir.path().join("0.log.1")).unwrap();
    shim.daemon.ok(Request::ReopenLog);
    assert!(log.exists());
    shim.shut();
}

#[test]
fn a_background_child_that_holds_the_pipe_does_not_hold_the_exit() {
    let mut shim = Running::created(script("sleep 20 & echo $!; exit 0"));
    let begun = Instant::now();
    shim.daemon.ok(Request::Start);
    assert_eq!(shim.daemon.exited().code, 0);
    assert!(begun.elapsed() < Duration::from_secs(10));
    let straggler = shim.log()[0]
        .strip_prefix("stdout F ")
        .unwrap()
        .parse()
        .unwrap();
    let straggler = rustix::process::Pid::from_raw(straggler).unwrap();
    rustix::process::kill_process(straggler, rustix::process::Signal::KILL).unwrap();
    shim.shut();
}

#[test]
fn shutdown_kills_what_lives() {
    let mut shim = Running::created(script("exec sleep 60"));
    shim.daemon.ok(Request::Start);
    let pidfd = shim.daemon.status().1.remove(0);
    shim.daemon.ok(Request::Shutdown);
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut fds, Some(&now)).unwrap(),
        1,
        "the init has ended before the answer"
    );
    shim.thread.join().unwrap();
}

/// A pod whose only process has ended is often removed at once.
#[test]
fn who_is_attached_and_takes_the_rest_gets_it_before_the_shim_goes() {
    const LENGTH: usize = 300_000;
    let script = script(&format!("head -c {LENGTH} /dev/zero"));
    let mut shim = Running::created(script);
    let attach = Request::Attach {
        stdin: false,
        stdout: true,
        stderr: false,
    };
    let client = shim.daemon.ok(attach).1.remove(0);
    rustix::io::ioctl_fionbio(&client, false).unwrap();
    shim.daemon.ok(Request::Start);
    assert_eq!(shim.daemon.exited().code, 0);
    let shutdown = shim.daemon.send(Request::Shutdown);
    // It does not go while this is awaited, but answers other calls.
    shim.connect().hello();
    let (mut heard, mut buffer) = (0, [0; 4096]);
    while let Ok(read @ 1..) = rustix::io::read(&client, &mut buffer) {
        heard += read;
    }
    assert_eq!(heard, LENGTH);
    match shim.daemon.next().0 {
        Message::Answer(Answer { id, result }) => {
            assert_eq!((id, result), (shutdown, Ok(Reply::Done)));
        }
        other => panic!("{other:?}"),
    }
    shim.thread.join().unwrap();
}

#[test]
fn who_is_attached_and_does_not_take_the_rest_is_told_before_the_shim_goes() {
    let mut shim = Running::created(script("head -c 300000 /dev/zero"));
    let attach = Request::Attach {
        stdin: false,
        stdout: true,
        stderr: false,
    };
    let attached = shim.daemon.send(attach);
    let _client = shim.daemon.next().1.remove(0);
    shim.daemon.ok(Request::Start);
    assert_eq!(shim.daemon.exited().code, 0);
    let shutdown = shim.daemon.send(Request::Shutdown);
    let told = [(); 2].map(|()| match shim.daemon.next().0 {
        Message::Answer(Answer { id, result }) => (id, result.is_ok()),
        other => panic!("{other:?}"),
    });
    assert_eq!(told, [(attached, false), (shutdown, true)]);
    shim.thread.join().unwrap();
}

#[test]
fn a_disk_that_takes_no_record_keeps_no_container() {
    let mut shim = serve(script("exit 4"));
    shim.daemon.hello();
    let exit_record = shim.dir.path().join("no/such/exit.json");
    shim.daemon.ok(Request::Create(CreateRequest {
        exit_record,
        ..shim.request()
    }));
    shim.daemon.ok(Request::Start);
    assert_eq!(shim.daemon.exited().code, 4, "the end is told all the same");
    shim.shut();
}

#[test]
fn a_shim_of_no_use_leaves_by_itself() {
    let mut shim = serve_for(script("exit 0"), Duration::from_millis(50));
    shim.daemon.hello();
    let request = shim.request();
    shim.daemon.ok(Request::Create(request));
    shim.daemon.ok(Request::Start);
    shim.daemon.exited();
    drop(shim.daemon);
    shim.thread.join().unwrap();
    assert!(!shim.dir.path().join("s").exists());
}

#[test]
fn a_shim_that_never_had_a_container_leaves_with_its_daemon() {
    let mut shim = serve(script("exit 0"));
    shim.daemon.hello();
    drop(shim.daemon);
    shim.thread.join().unwrap();
    assert!(!shim.dir.path().join("s").exists());
}

#[test]
fn an_unacknowledged_end_keeps_a_shim_whose_daemon_is_there() {
    let mut shim = serve_for(script("exit 0"), Duration::from_millis(1));
    shim.daemon.hello();
    let request = shim.request();
    shim.daemon.ok(Request::Create(request));
    shim.daemon.ok(Request::Start);
    shim.daemon.exited();
    // It has nothing to say and does not hang up, for a hundred times as long as it lingers.
    let patience = timespec(Duration::from_millis(100));
    let mut socket = [PollFd::new(&shim.daemon.socket, PollFlags::IN)];
    assert_eq!(poll(&mut socket, Some(&patience)).unwrap(), 0);
    shim.daemon.ok(Request::Acknowledge { up_to: 1 });
    shim.thread.join().unwrap();
}
