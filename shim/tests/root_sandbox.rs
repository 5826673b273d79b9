//! `corten-shim sandbox` and `pause`, run as the daemon runs them. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "sandbox/pod.rs"]
mod pod;

use corten_shim::api::{FailureKind, PinRequest, Pins, ProcessName, SandboxReply, SandboxRequest};
use pod::{Pod, ask, is_alive, pidfd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn wait(pidfd: &OwnedFd) {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None).unwrap();
}

/// A shell in the pod's PID namespace.
fn in_pid_namespace(pod: &Pod, script: &str) -> std::process::Output {
    let target = pod.pins.pid.as_ref().unwrap();
    let option = format!("--pid={}", target.display());
    Command::new("nsenter")
        .args([&option, "unshare", "--mount", "sh", "-c", script])
        .output()
        .unwrap()
}

#[test]
#[ignore = "needs root"]
fn root_all_kinds_are_pinned_and_nothing_is_left() {
    let mut pod = Pod::new();
    let fds = pod.pin(&[
        ("kernel.shm_rmid_forced", "1"),
        ("net.core.somaxconn", "77"),
    ]);
    assert_eq!(fds.len(), 2, "the rtnetlink socket and the holder's pidfd");
    for (path, kind) in [
        (&pod.pins.network, "net"),
        (&pod.pins.ipc, "ipc"),
        (&pod.pins.uts, "uts"),
    ] {
        let pinned = std::fs::metadata(path.as_ref().unwrap()).unwrap();
        let host = std::fs::metadata(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(pinned.ino(), host.ino(), "{kind} is to be the pod's own");
    }
    assert_eq!(pod.inside(&["uname", "-n"]), "pod-host");
    assert_eq!(
        pod.inside(&["cat", "/proc/sys/kernel/shm_rmid_forced"]),
        "1"
    );
    assert_eq!(pod.inside(&["cat", "/proc/sys/net/core/somaxconn"]), "77");
    assert!(
        pod.inside(&["ip", "-o", "link", "show", "lo"])
            .contains(",UP")
    );
    let shm = pod.pins.shm.clone().unwrap();
    assert_eq!(
        std::fs::metadata(&shm).unwrap().permissions().mode() & 0o7777,
        0o1777
    );
    let size = rustix::fs::statfs(&shm).unwrap();
    assert_eq!(
        u64::try_from(size.f_bsize).unwrap() * size.f_blocks,
        1 << 20
    );
    let holder = pidfd(pod.pins.holder.unwrap());
    pod.unpin();
    assert!(!is_alive(&holder));
    pod.assert_gone();
    pod.unpin();
}

#[test]
#[ignore = "needs root"]
fn root_a_pod_that_gets_a_scope_has_a_holder_also_without_a_pid_namespace() {
    let mut pod = Pod::new();
    pod.pins.pid = None;
    assert_eq!(pod.pin(&[]).len(), 1, "the rtnetlink socket alone");
    assert_eq!(pod.pins.holder, None);
    pod.unpin();
    pod.scoped = true;
    assert_eq!(pod.pin(&[]).len(), 2, "and the holder's pidfd");
    let name = pod.pins.holder.unwrap();
    let of = |pid: &str, kind: &str| std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let pid = name.pid.to_string();
    assert_eq!(of(&pid, "pid").ino(), of("self", "pid").ino());
    let network = std::fs::metadata(pod.pins.network.as_ref().unwrap()).unwrap();
    assert_eq!(
        of(&pid, "net").ino(),
        network.ino(),
        "tools enter by its pid"
    );
    let holder = pidfd(name);
    assert!(is_alive(&holder));
    pod.unpin();
    assert!(!is_alive(&holder));
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_what_is_not_asked_for_stays_the_hosts() {
    let mut pod = Pod::new();
    pod.pins = Pins {
        uts: pod.pins.uts.clone(),
        ..Pins::default()
    };
    assert!(pod.pin(&[]).is_empty());
    assert!(pod.pins.holder.is_none());
    pod.unpin();
}

#[test]
#[ignore = "needs root"]
fn root_sysctls_of_the_host_are_refused_and_nothing_is_left() {
    let pod = Pod::new();
    let before = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    assert_eq!(
        pod.refused(&[("kernel.core_pattern", "|/x")]).kind,
        FailureKind::Invalid
    );
    assert_eq!(
        pod.refused(&[("net.core.no_such", "1")]).kind,
        FailureKind::Invalid
    );
    assert_eq!(
        pod.refused(&[("kernel.msgmax", "words")]).kind,
        FailureKind::Invalid
    );
    assert_eq!(
        std::fs::read("/proc/sys/kernel/core_pattern").unwrap(),
        before
    );
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_a_pinning_that_fails_late_is_undone() {
    Pod::new().assert_undone_when_late();
}

/// The paths of a pod that lives are not another's to take, nor to take away.
#[test]
#[ignore = "needs root"]
fn root_a_second_pinning_leaves_the_first_alone() {
    let mut pod = Pod::new();
    pod.pin(&[]);
    let holder = pidfd(pod.pins.holder.unwrap());
    let all = std::mem::take(&mut pod.pins);
    let one = |change: fn(&Pins, &mut Pins)| {
        let mut pins = Pins::default();
        change(&all, &mut pins);
        pins
    };
    for pins in [
        one(|all, pins| pins.network = all.network.clone()),
        one(|all, pins| pins.pid = all.pid.clone()),
        one(|all, pins| pins.shm = all.shm.clone()),
    ] {
        pod.pins = pins;
        assert_eq!(pod.refused(&[]).kind, FailureKind::Invalid);
    }
    pod.pins = all;
    assert!(is_alive(&holder));
    assert_eq!(pod.inside(&["uname", "-n"]), "pod-host");
    assert!(in_pid_namespace(&pod, "true").status.success());
    let shm = rustix::fs::statfs(pod.pins.shm.as_ref().unwrap()).unwrap();
    assert_eq!(u64::try_from(shm.f_bsize).unwrap() * shm.f_blocks, 1 << 20);
}

#[test]
#[ignore = "needs root"]
fn root_a_pod_without_a_name_has_the_nodes() {
    let mut pod = Pod::new();
    pod.pins = Pins {
        uts: pod.pins.uts.clone(),
        ..Pins::default()
    };
    let reply = ask(&SandboxRequest::Pin(PinRequest {
        pins: pod.pins.clone(),
        hostname: String::new(),
        sysctls: Vec::new(),
        shm_size: 0,
        cgroup: None,
        scoped: false,
        ids: None,
    }));
    assert!(matches!(reply.0, SandboxReply::Pinned { .. }), "{reply:?}");
    let node = rustix::system::uname();
    assert_eq!(
        pod.inside(&["uname", "-n"]),
        node.nodename().to_str().unwrap()
    );
}

#[test]
#[ignore = "needs root"]
fn root_the_holder_reaps_and_hears_nobody_inside() {
    let mut pod = Pod::new();
    pod.pin(&[]);
    let holder = pidfd(pod.pins.holder.unwrap());
    // An orphan: its parent ends first, so it falls to PID 1.
    let said = in_pid_namespace(
        &pod,
        "(sh -c 'exec sleep 0' & echo $!); kill -TERM 1; kill -KILL 1",
    );
    assert!(said.status.success(), "{said:?}");
    let zombies = || {
        let namespace = std::fs::metadata(pod.pins.pid.as_ref().unwrap())
            .unwrap()
            .ino();
        let stats = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|entry| {
                let own = std::fs::metadata(entry.path().join("ns/pid"));
                own.is_ok_and(|own| own.ino() == namespace)
            });
        stats.count()
    };
    while zombies() > 1 {
        std::thread::yield_now();
    }
    assert!(
        is_alive(&holder),
        "a container may not end the pod's namespace"
    );
    kill_process(
        Pid::from_raw(pod.pins.holder.unwrap().pid).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    wait(&holder);
}

#[test]
#[ignore = "needs root"]
fn root_a_holder_that_was_killed_is_no_obstacle() {
    let mut pod = Pod::new();
    pod.pin(&[]);
    let holder = pidfd(pod.pins.holder.unwrap());
    kill_process(
        Pid::from_raw(pod.pins.holder.unwrap().pid).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    wait(&holder);
    pod.unpin();
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_a_reused_pid_is_not_killed_and_an_unknown_holder_is_found() {
    let mut pod = Pod::new();
    pod.pin(&[]);
    let holder = pidfd(pod.pins.holder.unwrap());
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = bystander.id().cast_signed();
    let stranger = Pins {
        holder: Some(ProcessName { pid, start_time: 1 }),
        ..Pins::default()
    };
    assert_eq!(
        ask(&SandboxRequest::Unpin(stranger)).0,
        SandboxReply::Unpinned
    );
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    pod.pins.holder = None; // as a daemon knows it that was killed before it heard
    pod.unpin();
    assert!(!is_alive(&holder));
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_the_holder_is_small_and_owns_nothing() {
    let mut pod = Pod::new();
    pod.pin(&[]);
    let proc = format!("/proc/{}", pod.pins.holder.unwrap().pid);
    let status = std::fs::read_to_string(Path::new(&proc).join("status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let none = format!("{set}:\t0000000000000000");
        assert!(status.contains(&none), "{status}");
    }
    let line = std::fs::read(Path::new(&proc).join("cmdline")).unwrap();
    assert!(line.ends_with(b"\0pause\0"), "{line:?}");
    // The socket goes just after the report that went through it.
    let late = Instant::now() + Duration::from_secs(10);
    while let Some(other) = descriptors(&proc)
        .into_iter()
        .find(|target| target != Path::new("/dev/null"))
    {
        assert!(Instant::now() < late, "it keeps {}", other.display());
        std::thread::yield_now();
    }
}

fn descriptors(proc: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(Path::new(proc).join("fd")).unwrap();
    // One that was closed since is none.
    all.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .collect()
}

/// As root with all capabilities, CAP_SYS_PTRACE among them, and from the first moment on.
#[test]
#[ignore = "needs root"]
fn root_who_may_trace_the_holder_finds_nothing_behind_it() {
    let mut pod = Pod::new();
    pod.pin(&[]);
    let said = in_pid_namespace(
        &pod,
        "mount -t proc proc /proc; grep CapEff /proc/self/status; ls -A /proc/1/root/ && \
         touch /proc/1/root/x 2>&1; wc -l < /proc/1/mountinfo; readlink /proc/1/cwd",
    );
    let said = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    let held = u64::from_str_radix(lines[0].trim_start_matches("CapEff:\t"), 16).unwrap();
    assert_ne!(held & 1 << 19, 0, "CAP_SYS_PTRACE is what this is about");
    assert!(lines[1].contains("Read-only"), "{said}");
    assert_eq!(
        &lines[2..],
        ["1", "/"],
        "one mount and no directory of the host's: {said}"
    );
}

/// In a mount namespace of its own, with a `/run` that nobody else sees.
#[test]
#[ignore = "needs root"]
fn root_pins_below_run_netns_are_shared_with_all_who_look_there() {
    let looked = std::thread::spawn(|| {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        corten_shim::sys::clone::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        mount("run", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
        // A node that has had pods before has such a mount, below what was just mounted.
        let mounts = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let before = mounts();
        let pins = |name: &str| Pins {
            network: Some(Path::new("/run/netns").join(name)),
            ..Pins::default()
        };
        let pin = |name: &str| {
            ask(&SandboxRequest::Pin(PinRequest {
                pins: pins(name),
                hostname: String::new(),
                sysctls: Vec::new(),
                shm_size: 0,
                cgroup: None,
                scoped: false,
                ids: None,
            }))
        };
        assert!(matches!(pin("a").0, SandboxReply::Pinned { .. }));
        assert!(matches!(pin("b").0, SandboxReply::Pinned { .. }));
        let after = mounts();
        ask(&SandboxRequest::Unpin(pins("a")));
        ask(&SandboxRequest::Unpin(pins("b")));
        let is_new = |line: &&str| before.lines().all(|old| old != *line);
        after.lines().filter(is_new).collect::<Vec<_>>().join("\n")
    });
    let seen = looked.join().unwrap();
    let at = |path: &str| -> Vec<&str> {
        let path = format!(" {path} ");
        seen.lines().filter(|line| line.contains(&path)).collect()
    };
    assert_eq!(at("/run/netns").len(), 1, "mounted once: {seen}");
    assert!(at("/run/netns")[0].contains(" shared:"), "{seen}");
    assert_eq!((at("/run/netns/a").len(), at("/run/netns/b").len()), (1, 1));
}
