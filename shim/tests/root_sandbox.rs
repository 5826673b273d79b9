//! `corten-shim sandbox` and `pause`, run as the daemon runs them. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

use corten_shim::api::{
    Failure, FailureKind, IdMap, IdMaps, PinRequest, Pins, ProcessName, SandboxReply,
    SandboxRequest,
};
use corten_shim::packet;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SHIM: &str = env!("CARGO_BIN_EXE_corten-shim");

fn ask(request: &SandboxRequest) -> (SandboxReply, Vec<OwnedFd>) {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let mut child = Command::new(SHIM)
        .arg("sandbox")
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    packet::send(&ours, request, &[]).unwrap();
    let got = packet::receive(&ours).unwrap().expect("an answer");
    assert!(child.wait().unwrap().success());
    (got.message, got.fds)
}

/// A pod below a directory of the test's own; unpinned when the test ends, however it ends.
struct Pod {
    dir: TempDir,
    pins: Pins,
}

impl Pod {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(dir.path().join(name));
        let pins = Pins {
            network: at("netns/pod"),
            ipc: at("ns/ipc"),
            uts: at("ns/uts"),
            pid: at("ns/pid"),
            shm: at("shm"),
            user: None,
            holder: None,
        };
        Self { dir, pins }
    }

    /// A pod with a user namespace of its own.
    fn in_user_namespace() -> Self {
        let mut pod = Self::new();
        pod.pins.user = Some(pod.dir.path().join("ns/user"));
        pod
    }

    fn request(&self, sysctls: &[(&str, &str)]) -> SandboxRequest {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        SandboxRequest::Pin(PinRequest {
            pins: self.pins.clone(),
            hostname: "pod-host".to_owned(),
            sysctls: sysctls.iter().map(own).collect(),
            shm_size: 1 << 20,
            cgroup: None,
            ids: self.pins.user.as_ref().map(|_| ids()),
        })
    }

    fn pin(&mut self, sysctls: &[(&str, &str)]) -> Vec<OwnedFd> {
        match ask(&self.request(sysctls)) {
            (SandboxReply::Pinned { holder }, fds) => {
                self.pins.holder = holder;
                fds
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    fn refused(&self, sysctls: &[(&str, &str)]) -> Failure {
        match ask(&self.request(sysctls)).0 {
            SandboxReply::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn unpin(&self) {
        let reply = ask(&SandboxRequest::Unpin(self.pins.clone())).0;
        assert_eq!(reply, SandboxReply::Unpinned);
    }

    /// What a command prints inside the pod's network, IPC and UTS namespaces.
    fn inside(&self, command: &'static [&'static str]) -> String {
        let namespaces: Vec<_> = [&self.pins.network, &self.pins.ipc, &self.pins.uts]
            .into_iter()
            .flatten()
            .map(|path| std::fs::File::open(path).unwrap())
            .collect();
        // A thread of its own: what it enters it does not bring back.
        let said = std::thread::spawn(move || {
            for namespace in &namespaces {
                let any: Option<LinkNameSpaceType> = None;
                move_into_link_name_space(namespace.as_fd(), any).unwrap();
            }
            Command::new(command[0])
                .args(&command[1..])
                .output()
                .unwrap()
        });
        String::from_utf8(said.join().unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Nothing of the pod is mounted, and no file of it is left.
    fn assert_gone(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(self.dir.path().to_str().unwrap()),
            "{mounts}"
        );
        let pins = &self.pins;
        let paths = [&pins.network, &pins.ipc, &pins.uts, &pins.pid, &pins.shm];
        for path in paths.into_iter().chain([&pins.user]).flatten() {
            assert!(!path.exists(), "{path:?}");
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        ask(&SandboxRequest::Unpin(self.pins.clone()));
    }
}

/// What root inside is outside.
const FIRST: u32 = 100_000;

fn ids() -> IdMaps {
    let all = vec![IdMap {
        inside: 0,
        outside: FIRST,
        length: 65_536,
    }];
    IdMaps {
        uids: all.clone(),
        gids: all,
    }
}

/// The inode of the user namespace that owns the namespace pinned here (`NS_GET_USERNS`).
fn owner(pin: &Path) -> u64 {
    let ask = "import fcntl, os, sys; print(os.fstat(fcntl.ioctl(os.open(sys.argv[1], 0), 0xb701)).st_ino)";
    let said = Command::new("python3").args(["-c", ask]).arg(pin).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    said.trim().parse().unwrap()
}

fn pidfd(name: ProcessName) -> OwnedFd {
    pidfd_open(Pid::from_raw(name.pid).unwrap(), PidfdFlags::empty()).unwrap()
}

fn wait(pidfd: &OwnedFd) {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None).unwrap();
}

fn is_alive(pidfd: &OwnedFd) -> bool {
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).unwrap() == 0
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
    let pod = Pod::new();
    let in_the_way = pod.pins.pid.clone().unwrap();
    std::fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    std::fs::write(&in_the_way, "").unwrap();
    let failure = pod.refused(&[]);
    assert!(failure.step.contains("ns/pid"), "{failure}");
    std::fs::remove_file(&in_the_way).expect("it was not ours to take away");
    pod.assert_gone();
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
                ids: None,
            }))
        };
        assert!(matches!(pin("a").0, SandboxReply::Pinned { .. }));
        assert!(matches!(pin("b").0, SandboxReply::Pinned { .. }));
        let seen = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        ask(&SandboxRequest::Unpin(pins("a")));
        ask(&SandboxRequest::Unpin(pins("b")));
        seen
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

#[test]
#[ignore = "needs root"]
fn root_a_pods_user_namespace_owns_all_its_others() {
    let mut pod = Pod::in_user_namespace();
    let fds = pod.pin(&[
        ("kernel.shm_rmid_forced", "1"),
        ("net.core.somaxconn", "77"),
    ]);
    assert_eq!(fds.len(), 2, "the rtnetlink socket and the holder's pidfd");
    let pins = &pod.pins;
    let user = std::fs::metadata(pins.user.as_ref().unwrap())
        .unwrap()
        .ino();
    for path in [&pins.network, &pins.ipc, &pins.uts, &pins.pid] {
        assert_eq!(owner(path.as_ref().unwrap()), user, "{path:?}");
    }
    assert_eq!(pod.inside(&["uname", "-n"]), "pod-host");
    assert_eq!(
        pod.inside(&["cat", "/proc/sys/kernel/shm_rmid_forced"]),
        "1"
    );
    assert_eq!(pod.inside(&["cat", "/proc/sys/net/core/somaxconn"]), "77");
    let lo = pod.inside(&["ip", "-o", "link", "show", "lo"]);
    assert!(lo.contains(",UP"), "{lo}");
    let shm = std::fs::metadata(pins.shm.as_ref().unwrap()).unwrap();
    assert_eq!((shm.uid(), shm.gid()), (FIRST, FIRST));
    let holder = pins.holder.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", holder.pid)).unwrap();
    assert!(status.contains(&format!("Uid:\t{FIRST}\t")), "{status}");
    let alive = pidfd(holder);
    pod.unpin();
    assert!(!is_alive(&alive));
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_a_pinning_in_a_user_namespace_that_fails_is_undone() {
    let pod = Pod::in_user_namespace();
    assert_eq!(
        pod.refused(&[("net.core.no_such", "1")]).kind,
        FailureKind::Invalid
    );
    pod.assert_gone();
    let in_the_way = pod.pins.pid.clone().unwrap();
    std::fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    std::fs::write(&in_the_way, "").unwrap();
    let failure = pod.refused(&[]);
    assert!(failure.step.contains("ns/pid"), "{failure}");
    std::fs::remove_file(&in_the_way).expect("it was not ours to take away");
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_a_pod_with_a_user_namespace_can_keep_the_hosts_network() {
    let mut pod = Pod::in_user_namespace();
    pod.pins.network = None;
    pod.pins.uts = None;
    assert_eq!(pod.pin(&[]).len(), 1, "the holder's pidfd");
    let user = std::fs::metadata(pod.pins.user.as_ref().unwrap()).unwrap();
    assert_eq!(owner(pod.pins.ipc.as_ref().unwrap()), user.ino());
    pod.unpin();
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_ids_that_cannot_be_are_refused_by_name() {
    let pod = Pod::in_user_namespace();
    let SandboxRequest::Pin(request) = pod.request(&[]) else {
        unreachable!("it asks for pins")
    };
    let with = |ids| {
        let request = PinRequest {
            ids,
            ..request.clone()
        };
        match ask(&SandboxRequest::Pin(request)).0 {
            SandboxReply::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    };
    let mut over = ids();
    over.gids[0].length = u32::MAX;
    assert!(with(Some(over)).to_string().contains("group"));
    assert_eq!(with(None).kind, FailureKind::Invalid);
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_whether_pods_can_have_a_user_namespace_is_tried_out() {
    let dir = tempfile::tempdir().unwrap();
    let probe = |path: &Path| ask(&SandboxRequest::Probe(path.to_owned())).0;
    assert_eq!(probe(dir.path()), SandboxReply::Probed(Ok(())));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // A file system whose owners cannot be mapped, and whose directories go by rmdir alone.
    let cgroups = Path::new("/sys/fs/cgroup/unified");
    let reply = probe(cgroups);
    let place = cgroups.join(".probe");
    for name in ["lower", "upper", "work", "rootfs", ""] {
        let _ = std::fs::remove_dir(place.join(name));
    }
    assert!(!place.exists());
    let SandboxReply::Probed(Err(failure)) = reply else {
        panic!("a cgroup file system was mapped")
    };
    assert!(!failure.to_string().is_empty());
}
