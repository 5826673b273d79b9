//! `corten-shim sandbox` where the pod has a user namespace of its own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "sandbox/pod.rs"]
mod pod;

use corten_shim::api::{FailureKind, PinRequest, SandboxReply, SandboxRequest};
use pod::{FIRST, Pod, ask, ids, is_alive, pidfd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// A pod with a user namespace of its own.
fn pod_of_users() -> Pod {
    let mut pod = Pod::new();
    pod.pins.user = Some(pod.dir.path().join("ns/user"));
    pod
}

/// The inode of the user namespace that owns the namespace pinned here (`NS_GET_USERNS`).
fn owner(pin: &Path) -> u64 {
    let ask = "import fcntl, os, sys; print(os.fstat(fcntl.ioctl(os.open(sys.argv[1], 0), 0xb701)).st_ino)";
    let said = Command::new("python3").args(["-c", ask]).arg(pin).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    said.trim().parse().unwrap()
}

#[test]
#[ignore = "needs root"]
fn root_a_pods_user_namespace_owns_all_its_others() {
    let mut pod = pod_of_users();
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
    let pod = pod_of_users();
    assert_eq!(
        pod.refused(&[("net.core.no_such", "1")]).kind,
        FailureKind::Invalid
    );
    pod.assert_gone();
    pod.assert_undone_when_late();
}

#[test]
#[ignore = "needs root"]
fn root_a_pod_with_a_user_namespace_can_keep_the_hosts_network() {
    let mut pod = pod_of_users();
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
fn root_a_scope_of_a_pod_with_a_user_namespace_is_held_by_the_pods_root() {
    let mut pod = pod_of_users();
    pod.pins.pid = None;
    pod.scoped = true;
    assert_eq!(
        pod.pin(&[]).len(),
        2,
        "the rtnetlink socket and the holder's pidfd"
    );
    let holder = pod.pins.holder.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", holder.pid)).unwrap();
    assert!(status.contains(&format!("Uid:\t{FIRST}\t")), "{status}");
    let alive = pidfd(holder);
    pod.unpin();
    assert!(!is_alive(&alive));
    pod.assert_gone();
}

#[test]
#[ignore = "needs root"]
fn root_ids_that_cannot_be_are_refused_by_name() {
    let pod = pod_of_users();
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
