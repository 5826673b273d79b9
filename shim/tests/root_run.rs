//! `corten-shim run` with real containers, spoken to as the daemon does. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "run/shim.rs"]
mod shim;

use corten_shim::api::{ANY, ExitReason, FailureKind, Part, Reply, Request, State};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use shim::{Shim, is_alive, wait};
use std::io::Read;
use std::path::PathBuf;

#[test]
#[ignore = "needs root"]
fn root_a_whole_life() {
    let mut shim = Shim::new("echo out; echo err >&2; printf rest; exit 3");
    let (status, fds) = shim.create();
    assert_eq!(status.state, State::Created);
    assert_eq!(status.user.unwrap().uid, 0);
    shim.start();
    wait(&fds[0]);
    let record = shim.exited();
    assert_eq!((record.code, record.signal), (3, None));
    assert_eq!(record.reason, ExitReason::Error);
    assert_eq!(record.pid, status.pid);
    assert_eq!(shim.record(), record);
    let mut log = shim.log();
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout P rest"]);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_codes_and_signals() {
    let mut well = Shim::new("exit 0");
    well.create();
    well.start();
    assert_eq!(well.exited().reason, ExitReason::Completed);
    well.shut();
    let mut killed = Shim::new("exec sleep 1000");
    let (_, fds) = killed.create();
    killed.start();
    rustix::process::pidfd_send_signal(&fds[0], Signal::KILL).unwrap();
    let record = killed.exited();
    assert_eq!((record.code, record.signal), (137, Some(9)));
    assert_eq!(record.reason, ExitReason::Error, "nobody ran out of memory");
    killed.shut();
}

#[test]
#[ignore = "needs root"]
fn root_out_of_memory_is_told_by_the_counter() {
    let mut shim = Shim::with_memory("exec dd if=/dev/zero of=/dev/null bs=60M", 20 << 20);
    shim.create();
    shim.start();
    let record = shim.exited();
    assert_eq!((record.code, record.reason), (137, ExitReason::OomKilled));
    assert!(shim.health().oom_kills > 0);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_container_that_survives_a_kill_for_memory_tells_it() {
    let mut shim = Shim::with_memory(
        "dd if=/dev/zero of=/dev/null bs=60M; exec sleep 1000",
        20 << 20,
    );
    shim.create();
    shim.start();
    shim.out_of_memory();
    assert_eq!(shim.status().0.state, State::Running);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_program_that_is_not_there_is_a_start_error() {
    let mut shim = Shim::with_arguments(&["/no/such/program"]);
    shim.create();
    let failure = shim.call(Request::Start).0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Start);
    let record = shim.record();
    assert_eq!((record.code, record.reason), (128, ExitReason::StartError));
    assert_eq!(shim.exited(), record);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_the_daemon_goes_away_and_comes_back() {
    let mut shim = Shim::new("echo before; read line; echo after $line; exit 5");
    shim.stdin();
    shim.create();
    shim.start();
    let (_, fds) = shim.ok(Request::Attach {
        stdin: true,
        stdout: false,
        stderr: false,
    });
    shim.hang_up();
    rustix::io::write(&fds[0], b"all\n").unwrap();
    drop(fds);
    while !shim.has_record() {
        std::thread::yield_now();
    }
    shim.connect();
    let record = shim.exited();
    assert_eq!(record.code, 5);
    assert_eq!(shim.log(), ["stdout F before", "stdout F after all"]);
    shim.ok(Request::Acknowledge { up_to: 1 });
    assert_eq!(shim.health().unacknowledged, 0);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_attached_clients_see_and_type_on_a_terminal() {
    let mut shim = Shim::with_terminal("stty size; read line; echo got $line");
    shim.stdin();
    shim.create();
    shim.ok(Request::Resize {
        width: 132,
        height: 43,
    });
    let (reply, fds) = shim.ok(Request::Attach {
        stdin: true,
        stdout: true,
        stderr: false,
    });
    assert_eq!(reply, Reply::Attached);
    shim.start();
    rustix::io::write(&fds[0], b"word\n").unwrap();
    let seen = read_all(&fds[0]);
    assert!(seen.contains("43 132"), "{seen:?}");
    assert!(seen.contains("got word"), "{seen:?}");
    assert_eq!(shim.exited().code, 0);
    assert!(
        shim.log()
            .iter()
            .any(|line| line.starts_with("stdout F got word"))
    );
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_shutdown_leaves_no_process_cgroup_or_socket() {
    let mut shim = Shim::new("sleep 1000 & exec sleep 1000");
    let (_, fds) = shim.create();
    shim.start();
    assert!(is_alive(&fds[0]));
    shim.shut();
    assert!(!is_alive(&fds[0]));
}

#[test]
#[ignore = "needs root"]
fn root_a_container_that_was_never_started_goes_too() {
    let mut shim = Shim::new("exit 0");
    let (_, fds) = shim.create();
    shim.shut();
    assert!(!is_alive(&fds[0]));
}

#[test]
#[ignore = "needs root"]
fn root_a_creation_that_fails_leaves_nothing() {
    let mut shim = Shim::new("exit 0");
    shim.break_bundle();
    let request = shim.request();
    shim.call(Request::Create(request)).0.unwrap_err();
    assert_eq!(shim.status().0.state, State::Empty);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_prepared_container_is_made_in_the_cgroup_that_is_there() {
    let mut shim = Shim::new("exec sleep 1000");
    shim.prepare();
    let (status, _) = shim.create();
    let container = std::fs::read_to_string(format!("/proc/{}/cgroup", status.pid)).unwrap();
    assert!(container.contains(&shim.id), "{container}");
    shim.start();
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_what_is_in_reserve_is_named_by_its_container() {
    let mut shim = Shim::in_reserve("exec sleep 1000");
    let stage = shim.children();
    assert_eq!(stage.len(), 1, "{stage:?}");
    shim.prepare();
    let (status, _) = shim.create();
    let init = std::fs::read_to_string(format!("/proc/{}/cmdline", status.pid)).unwrap();
    for line in [init, shim.proc("cmdline")] {
        assert!(line.contains(&shim.id) && !line.contains(ANY), "{line}");
    }
    shim.start();
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_stage_that_was_killed_in_reserve_is_not_missed() {
    let mut shim = Shim::in_reserve("exit 3");
    let stage = shim.children()[0];
    let pidfd = pidfd_open(stage, PidfdFlags::empty()).unwrap();
    kill_process(stage, Signal::KILL).unwrap();
    wait(&pidfd);
    shim.prepare();
    shim.create();
    shim.start();
    assert_eq!(shim.exited().code, 3);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_stage_goes_with_a_shim_that_is_killed_in_reserve() {
    let shim = Shim::in_reserve("exit 0");
    let stage = pidfd_open(shim.children()[0], PidfdFlags::empty()).unwrap();
    shim.kill();
    wait(&stage);
}

#[test]
#[ignore = "needs root"]
fn root_a_stage_goes_with_a_shim_that_nobody_needs() {
    let mut left = Shim::in_reserve("exit 0");
    let stage = pidfd_open(left.children()[0], PidfdFlags::empty()).unwrap();
    left.leave();
    assert!(!is_alive(&stage), "it is reaped before its shim ends");
}

#[test]
#[ignore = "needs root"]
fn root_a_stage_that_has_made_its_container_goes() {
    let mut shim = Shim::in_reserve("exec sleep 1000");
    let stage = pidfd_open(shim.children()[0], PidfdFlags::empty()).unwrap();
    shim.prepare();
    let (status, _) = shim.create();
    wait(&stage);
    let init: Vec<_> = Pid::from_raw(status.pid).into_iter().collect();
    // Reaped in one of the next turns.
    while shim.children() != init {
        shim.status();
    }
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_each_part_of_a_start_is_timed() {
    let mut shim = Shim::new("exit 0");
    let request = shim.request();
    let parts = |reply| match reply {
        (Reply::Timed { laps, .. }, _) => {
            assert!(
                laps.iter().map(|lap| lap.micros).sum::<u32>() > 0,
                "{laps:?}"
            );
            laps.into_iter().map(|lap| lap.part).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    use Part::{Bundle, Cgroup, Clone, Enter, Exec, Identity, Mounts, Root, Seccomp};
    let made = parts(shim.ok(Request::Create(request)));
    assert_eq!(made, [Bundle, Cgroup, Root, Clone, Enter, Mounts]);
    let started = parts(shim.ok(Request::Start));
    assert_eq!(started, [Identity, Seccomp, Exec]);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_what_was_prepared_goes_with_a_creation_that_fails() {
    let mut shim = Shim::new("exit 0");
    shim.prepare();
    shim.break_bundle();
    let request = shim.request();
    shim.call(Request::Create(request)).0.unwrap_err();
    assert_eq!(shim.cgroups(), Vec::<PathBuf>::new());
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_bundle_of_another_cgroup_than_was_prepared_is_refused() {
    let mut shim = Shim::new("exit 0");
    let other = format!("/{}-other", shim.id);
    shim.prepare_cgroup(&other);
    let request = shim.request();
    let failure = shim.call(Request::Create(request)).0.unwrap_err();
    assert!(failure.to_string().contains(&other), "{failure}");
    assert_eq!(shim::cgroups_of(&other[1..]), Vec::<PathBuf>::new());
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_what_was_prepared_goes_with_the_daemon_that_asked() {
    let mut shim = Shim::new("exit 0");
    shim.prepare();
    shim.leave();
    assert_eq!(shim.cgroups(), Vec::<PathBuf>::new());
}

/// `pivot_root` would leave the host's root as that of the container's mount namespace.
#[test]
#[ignore = "needs root"]
fn root_no_container_is_started_in_a_chroot() {
    let mut shim = Shim::in_chroot_without_bare("exit 0");
    shim.create();
    let failure = shim.call(Request::Start).0.unwrap_err();
    assert!(failure.to_string().contains("chroot"), "{failure}");
    assert_eq!(shim.exited().code, 128);
    shim.shut();
}

/// What it begins from has a root of its own: so the host's root does not matter, nor what is mounted there.
#[test]
#[ignore = "needs root"]
fn root_a_container_begins_from_the_bare_mount_namespace() {
    let mut shim = Shim::in_chroot("exit 7");
    shim.create();
    shim.start();
    assert_eq!(shim.exited().code, 7);
    shim.shut();
}

/// A daemon that has gone in the meantime has taken the namespace with it.
#[test]
#[ignore = "needs root"]
fn root_without_the_bare_mount_namespace_it_begins_from_the_hosts() {
    let mut shim = Shim::new("exit 7");
    shim.forget_bare();
    shim.create();
    shim.start();
    assert_eq!(shim.exited().code, 7);
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_running_shim_has_given_up_what_it_does_not_need() {
    let mut shim = Shim::new("exec sleep 1000");
    shim.create();
    shim.start();
    // It gives them up when it has answered, and before it hears of anything else.
    shim.status();
    let status = shim.proc("status");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // CAP_DAC_OVERRIDE (1) and CAP_KILL (5).
    assert!(status.contains("CapEff:\t0000000000000022"), "{status}");
    assert!(status.contains("CapPrm:\t0000000000000022"), "{status}");
    assert!(status.contains("CapBnd:\t0000000000000000"), "{status}");
    shim.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_shim_lives_in_the_cgroup_of_shims_and_its_container_does_not() {
    let home = shim::Home::new();
    let mut shim = Shim::in_cgroup("exec sleep 1000", home.name());
    let (status, _) = shim.create();
    assert!(
        shim.proc("cgroup").contains(home.name()),
        "{}",
        shim.proc("cgroup")
    );
    let container = std::fs::read_to_string(format!("/proc/{}/cgroup", status.pid)).unwrap();
    assert!(!container.contains(home.name()), "{container}");
    shim.shut();
}

/// A shim is spared (where it may be: with CAP_SYS_RESOURCE), its container is not.
#[test]
#[ignore = "needs root"]
fn root_a_container_does_not_inherit_the_shims_oom_score() {
    let mut shim = Shim::new("exec sleep 1000");
    let (status, _) = shim.create();
    let score = |pid: &str| {
        let path = format!("/proc/{pid}/oom_score_adj");
        std::fs::read_to_string(path).unwrap()
    };
    assert_eq!(score(&status.pid.to_string()), score("self"));
    shim.shut();
}

fn read_all(socket: &OwnedFd) -> String {
    let mut file = std::fs::File::from(socket.try_clone().unwrap());
    let mut seen = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
        match file.read(&mut buffer).unwrap() {
            0 => return String::from_utf8_lossy(&seen).into_owned(),
            got => seen.extend_from_slice(&buffer[..got]),
        }
    }
}
