//! Processes that join a running container. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "create/container.rs"]
#[expect(dead_code, reason = "shared with other tiers, which use the rest")]
mod container;

use container::{Bundle, cgroups, until};
use corten_shim::api::FailureKind;
use corten_shim::cgroup::Cgroup;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

fn lines(output: &str) -> Vec<&str> {
    output.lines().collect()
}

#[test]
#[ignore = "needs root"]
fn root_exec_joins_everything() {
    let mut bundle = Bundle::new("mkdir /tmp/mine; sleep 1000");
    bundle
        .push("/linux/namespaces", json!({"type": "uts"}))
        .set("/hostname", json!("inside"));
    bundle.push("/linux/namespaces", json!({"type": "network"}));
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    until("it runs", || bundle.path("upper/tmp/mine").exists());
    let script = "hostname; ls /tmp; ls /proc/self/fd | wc -l; for ns in mnt pid ipc uts net; do test $(readlink /proc/1/ns/$ns) = $(readlink /proc/self/ns/$ns) || echo differs $ns; done; grep CapBnd /proc/self/status /proc/1/status | sed 's/.*://' ; sed 's/.*://' /proc/1/cgroup | sort -u; exit 7";
    let mut exec = container.exec(&["sh", "-c", script], &json!({}));
    assert!(exec.started.is_ok(), "{:?}", exec.started);
    let output = exec.output();
    assert_eq!(exec.exited(), (7, false));
    let lines = lines(&output);
    assert_eq!(&lines[..3], ["inside", "mine", "4"], "{output}");
    assert_eq!(lines[3], lines[4], "the same bounding set");
    assert!(!output.contains("differs"), "{output}");
    exec.gone();
    until("its cgroup is gone", || {
        cgroups(bundle.id()).iter().all(|path| {
            path.read_dir()
                .unwrap()
                .flatten()
                .all(|entry| !entry.path().is_dir())
        })
    });
}

#[test]
#[ignore = "needs root"]
fn root_exec_has_its_own_user_terminal_and_stdin() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let user = json!({"uid": 0, "gid": 0, "username": "user"});
    let mut exec = container.exec(
        &[
            "sh",
            "-c",
            "id -u; id -G; echo $HOME; grep CapEff /proc/self/status",
        ],
        &json!({"user": user}),
    );
    let output = exec.output();
    assert_eq!(
        lines(&output),
        [
            "1000",
            "1000 50000",
            "/home/user",
            "CapEff:\t0000000000000000"
        ]
    );
    assert_eq!(exec.exited(), (0, false));
    let mut exec = container.exec(
        &["sh", "-c", "read line; tty; stty size; echo got $line"],
        &json!({"terminal": true}),
    );
    exec.tell(&corten_shim::api::ExecControl::Resize {
        width: 99,
        height: 33,
    });
    assert_eq!(exec.fds.len(), 1);
    // The size is set before the line arrives: both are obeyed in order by different readers, so
    // the line is sent until the size shows.
    let master = exec.fds[0].try_clone().unwrap();
    until("the size is set", || {
        rustix::termios::tcgetwinsize(&master).unwrap().ws_col == 99
    });
    rustix::io::write(&master, b"word\n").unwrap();
    let output = exec.output().replace('\r', "");
    assert!(
        output.contains("/dev/pts/") && output.contains("33 99\ngot word\n"),
        "{output}"
    );
    assert_eq!(exec.exited(), (0, false));
    let mut exec = container.exec_request(&["cat"], &json!({}), |request| request.stdin = true);
    rustix::io::write(&exec.fds[0], b"through").unwrap();
    drop(exec.fds.remove(0));
    exec.fds
        .insert(0, std::fs::File::open("/dev/null").unwrap().into());
    assert_eq!(exec.output(), "through");
    assert_eq!(exec.exited(), (0, false));
}

#[test]
#[ignore = "needs root"]
fn root_exec_says_why_it_cannot() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let missing = container
        .exec(&["/no/such"], &json!({}))
        .started
        .unwrap_err();
    assert_eq!(
        (missing.kind, missing.errno),
        (FailureKind::Start, libc::ENOENT)
    );
    let own = container
        .exec(&["/proc/self/exe"], &json!({}))
        .started
        .unwrap_err();
    assert_eq!((own.kind, own.errno), (FailureKind::Start, libc::EPERM));
    let ghost = container
        .exec(
            &["true"],
            &json!({"user": {"uid": 0, "gid": 0, "username": "ghost"}}),
        )
        .started
        .unwrap_err();
    assert_eq!(ghost.kind, FailureKind::User);
    rustix::process::pidfd_send_signal(&container.pidfd, rustix::process::Signal::KILL).unwrap();
    container.exited();
    let ended = container.exec(&["true"], &json!({})).started.unwrap_err();
    assert_eq!(ended.kind, FailureKind::State, "{ended}");
}

/// A process that leaves a mark of itself which only its death takes away: the write end of a pipe.
const DAEMON: &str = "setsid sh -c 'sleep 1000 & sleep 1000' & sleep 1000";

fn closed(fd: &rustix::fd::OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap();
    fds[0].revents().contains(PollFlags::HUP)
}

#[test]
#[ignore = "needs root"]
fn root_an_exec_whose_time_is_up_ends_with_all_its_descendants() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let mut exec = container.exec_request(&["sh", "-c", DAEMON], &json!({}), |request| {
        request.timeout_ms = 300;
    });
    assert_eq!(exec.exited(), (137, true));
    assert!(closed(&exec.fds[1]), "nobody of it holds the pipe any more");
    exec.gone();
    let bomb = "next() { next & }; for line in $(seq 20); do next & done; sleep 1000";
    let mut exec = container.exec_request(&["sh", "-c", bomb], &json!({}), |request| {
        request.timeout_ms = 300;
    });
    assert_eq!(exec.exited(), (137, true));
    assert!(closed(&exec.fds[1]), "also those that never rest");
    exec.gone();
    let mut exec = container.exec_request(&["sh", "-c", DAEMON], &json!({}), |_| ());
    let stdout = exec.fds.remove(1);
    assert!(!closed(&stdout));
    exec.gone();
    assert!(closed(&stdout), "its client has gone");
}

#[test]
#[ignore = "needs root"]
fn root_a_process_hears_that_its_client_has_gone_before_it_is_ended() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let script = "trap ': >/tmp/hung-up; exit' HUP; : >/tmp/up; while :; do sleep 1; done";
    let mut exec = container.exec(&["sh", "-c", script], &json!({"terminal": true}));
    until("it runs", || bundle.path("upper/tmp/up").exists());
    exec.fds.clear();
    exec.gone();
    assert!(bundle.path("upper/tmp/hung-up").exists());
    let script = "while read line; do :; done; : >/tmp/ended";
    let mut exec =
        container.exec_request(&["sh", "-c", script], &json!({}), |exec| exec.stdin = true);
    rustix::io::write(&exec.fds[0], b"x").unwrap();
    exec.fds.clear();
    exec.gone();
    assert!(bundle.path("upper/tmp/ended").exists());
}

#[test]
#[ignore = "needs root"]
fn root_who_does_not_listen_is_ended_with_its_client() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let script = "trap '' HUP; setsid sleep 1000 & touch /tmp/up; while :; do sleep 1000; done";
    let mut exec = container.exec(&["sh", "-c", script], &json!({"terminal": true}));
    until("it runs", || bundle.path("upper/tmp/up").exists());
    let cgroup = Cgroup::find(&format!("/{}", bundle.id())).unwrap();
    let members = || cgroup.nested().unwrap().len();
    assert_eq!(members(), 1);
    exec.fds.clear();
    exec.gone();
    assert_eq!(members(), 0, "nobody of it is left");
    container.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_background_process_outlives_its_exec() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let mut exec = container.exec(&["sh", "-c", "sleep 1000 & exit 3"], &json!({}));
    assert_eq!(exec.exited(), (3, false));
    let stdout = exec.fds.remove(1);
    exec.gone();
    assert!(!closed(&stdout));
    container.shut();
    assert!(closed(&stdout), "it ended with the container");
    assert_eq!(cgroups(bundle.id()).len(), 0);
}

#[test]
#[ignore = "needs root"]
fn root_a_stdin_that_is_no_null_device_is_refused_at_once() {
    let mut bundle =
        Bundle::new("rm /dev/null; busybox mkfifo /dev/null; touch /tmp/done; sleep 1000");
    bundle.set("/process/env", json!(["PATH=/bin"]));
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    until("the pipe is there", || {
        bundle.path("upper/tmp/done").exists()
    });
    let failure = container.exec(&["true"], &json!({})).started.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
}

#[test]
#[ignore = "needs root"]
fn root_a_process_does_not_outlive_a_killed_shim() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let user = json!({"user": {"uid": 1000, "gid": 1000}});
    let mut exec = container.exec(&["sleep", "1000"], &user);
    assert!(!closed(&exec.fds[1]));
    exec.kill_shim();
    until("it has ended", || closed(&exec.fds[1]));
}

#[test]
#[ignore = "needs root"]
fn root_exec_has_the_containers_keyring() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let mut exec = container.exec(&["sh", "-c", "cat /proc/keys"], &json!({}));
    let seen = exec.output();
    exec.exited();
    exec.gone();
    let name = format!("_ses.{}", bundle.id());
    let keyrings = seen.lines().filter(|line| line.contains(&name)).count();
    assert_eq!(keyrings, 1, "{seen}");
    container.shut();
}

/// As execs leave it whose shim was killed.
#[test]
#[ignore = "needs root"]
fn root_an_exec_removes_what_others_have_left() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let cgroup = Cgroup::find(&format!("/{}", bundle.id())).unwrap();
    let (_, left) = cgroup.nest("exec-999999999-1").unwrap();
    let (_, alive) = cgroup
        .nest(&format!("exec-{}-1", std::process::id()))
        .unwrap();
    let mut exec = container.exec(&["true"], &json!({}));
    assert_eq!(exec.exited(), (0, false));
    exec.gone();
    assert!(!left.directories()[0].path.exists());
    assert!(alive.directories()[0].path.exists(), "its shim lives");
    container.shut();
}

/// Whoever may trace in the container would take from it what it still has of the host. Held in the
/// container's frozen cgroup, which it enters before it joins.
#[test]
#[ignore = "needs root"]
fn root_nobody_is_born_into_the_container_with_the_hosts_root() {
    let bundle = Bundle::new("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let cgroup = Cgroup::find(&format!("/{}", bundle.id())).unwrap();
    let freezer = Freezer::of(&cgroup);
    freezer.set(freezer.frozen);
    let (member, namespace) = std::thread::scope(|scope| {
        let exec = scope.spawn(|| {
            let mut exec = container.exec(&["true"], &json!({}));
            assert_eq!(exec.exited(), (0, false));
            exec.gone();
        });
        let mut members = Vec::new();
        until("the exec is in its cgroup", || {
            members = cgroup.processes().unwrap();
            members.retain(|pid| *pid != container.status.pid);
            !members.is_empty()
        });
        let namespace = std::fs::read_link(format!("/proc/{}/ns/pid_for_children", members[0]));
        freezer.set(freezer.thawed);
        exec.join().unwrap();
        (members[0], namespace.unwrap())
    });
    let host = std::fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(namespace, host, "process {member}");
    container.shut();
}

/// What stops a container.
struct Freezer {
    file: std::path::PathBuf,
    frozen: &'static str,
    thawed: &'static str,
}

impl Freezer {
    fn of(cgroup: &Cgroup) -> Self {
        let (directory, name, frozen, thawed) = match cgroup.controller("freezer") {
            Some(directory) => (directory, "freezer.state", "FROZEN", "THAWED"),
            None => (cgroup.unified().unwrap(), "cgroup.freeze", "1", "0"),
        };
        Self {
            file: directory.path.join(name),
            frozen,
            thawed,
        }
    }

    fn set(&self, state: &str) {
        std::fs::write(&self.file, state).unwrap();
    }
}
