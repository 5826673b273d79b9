//! Containers in a user namespace, looked at from inside and outside. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "create/container.rs"]
#[expect(dead_code, reason = "shared with another tier, which uses the rest")]
mod container;

use container::{Bundle, Container};
use corten_shim::api::{Failure, FailureKind};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// What root inside is outside, and how many ids there are.
const FIRST: u32 = 100_000;
const LENGTH: u32 = 65_536;

fn ids() -> Value {
    json!([{"containerID": 0, "hostID": FIRST, "size": LENGTH}])
}

/// A bundle with a user namespace of its own, and a network namespace for its sysfs.
fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle
        .push("/linux/namespaces", json!({"type": "user"}))
        .push("/linux/namespaces", json!({"type": "network"}))
        .set("/linux/uidMappings", ids())
        .set("/linux/gidMappings", ids());
    bundle
}

/// The numbers of a line of `/proc/PID/status`.
fn status(pid: i32, name: &str) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let words = line.unwrap().trim_start_matches(':').split_whitespace();
    words.map(|word| word.parse().unwrap()).collect()
}

fn exec(container: &Container<'_>, args: &[&str], more: &Value) -> (String, i32) {
    let mut exec = container.exec(args, more);
    exec.started.as_ref().unwrap();
    let output = exec.output();
    let (code, _) = exec.exited();
    exec.gone();
    (output, code)
}

#[test]
#[ignore = "needs root"]
fn root_the_images_files_are_its_own_and_what_it_makes_is_outside_nobodys_of_the_host() {
    let bundle = bundle(
        "cat /proc/self/uid_map | tr -s ' '; cat /proc/self/gid_map | tr -s ' '; \
         stat -c '%u:%g %n' / /bin /etc/passwd /home/user /dev /dev/null /dev/pts /dev/shm /tmp; \
         mkdir /made && echo x > /made/file && stat -c '%u:%g %n' /made/file; \
         echo more >> /etc/passwd && stat -c '%u:%g %n' /etc/passwd; rm -r /etc/group; ls /etc",
    );
    std::os::unix::fs::symlink("busybox", bundle.image("bin/tr")).unwrap();
    std::os::unix::fs::chown(bundle.image("home/user"), Some(1000), Some(1000)).unwrap();
    let (output, record) = bundle.run();
    assert_eq!(record.code, 0, "{output}");
    let map = format!(" 0 {FIRST} {LENGTH}");
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(&lines[..2], [map.as_str(), map.as_str()]);
    assert_eq!(
        &lines[2..],
        [
            "0:0 /",
            "0:0 /bin",
            "0:0 /etc/passwd",
            "1000:1000 /home/user",
            "0:0 /dev",
            "0:0 /dev/null",
            "0:0 /dev/pts",
            "0:0 /dev/shm",
            "0:0 /tmp",
            "0:0 /made/file",
            "0:0 /etc/passwd",
            "passwd"
        ]
    );
    let made = std::fs::metadata(bundle.path("upper/made/file")).unwrap();
    assert_eq!((made.uid(), made.gid()), (FIRST, FIRST));
    let image = std::fs::metadata(bundle.image("etc/passwd")).unwrap();
    assert_eq!(image.uid(), 0, "nothing of the image was changed");
    assert!(
        !std::fs::read_to_string(bundle.image("etc/passwd"))
            .unwrap()
            .contains("more")
    );
}

#[test]
#[ignore = "needs root"]
fn root_outside_it_is_nobody_and_its_namespaces_are_owned_by_its_own() {
    let bundle = bundle("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let pid = container.status.pid;
    assert_eq!(status(pid, "Uid"), [FIRST; 4]);
    assert_eq!(status(pid, "Gid"), [FIRST; 4]);
    let owners = std::process::Command::new("python3")
        .args(["-c", "import fcntl, os, sys\nown = os.stat(sys.argv[1] + 'user').st_ino\nfor kind in 'mnt', 'pid', 'ipc', 'net':\n    fd = os.open(sys.argv[1] + kind, os.O_RDONLY)\n    print(kind, os.fstat(fcntl.ioctl(fd, 0xb701)).st_ino == own)"])
        .arg(format!("/proc/{pid}/ns/"))
        .output()
        .unwrap();
    let said = String::from_utf8(owners.stdout).unwrap();
    assert_eq!(
        said, "mnt True\npid True\nipc True\nnet True\n",
        "NS_GET_USERNS"
    );
    container.shut();
}

#[test]
#[ignore = "needs root"]
fn root_devices_work_and_no_other_can_be_made() {
    let mut bundle = bundle(
        "head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo written; \
         stat -c '%u:%g %a %t:%T' /dev/null /dev/own; mknod /dev/kmem c 1 2 || echo refused; \
         mknod /tmp/null c 1 3 || echo refused; (echo err > /dev/stderr) 2>&1; echo out > /dev/stdout; \
         ls -d /dev/fd /dev/ptmx",
    );
    bundle.push(
        "/linux/devices",
        json!({"type": "c", "path": "/dev/own", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8}),
    );
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": true, "access": "rwm"}]),
    );
    let (output, record) = bundle.run();
    assert_eq!(record.code, 0, "{output}");
    let lines: Vec<_> = output
        .lines()
        .filter(|line| !line.starts_with("mknod"))
        .collect();
    assert_eq!(
        lines,
        [
            "3",
            "written",
            "0:0 666 1:3",
            "7:8 640 1:5",
            "refused",
            "refused",
            "err",
            "out",
            "/dev/fd",
            "/dev/ptmx"
        ]
    );
}

#[test]
#[ignore = "needs root"]
fn root_a_volumes_owners_are_mapped_where_that_is_asked_for() {
    let mut bundle = bundle(
        "stat -c '%u:%g %n' /mapped /mapped/file /other/file /plain/file; echo x > /mapped/new; \
         echo x > /plain/new; stat -c '%u:%g' /mapped/new; ls /plain",
    );
    let volume = bundle.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "").unwrap();
    std::os::unix::fs::chown(volume.join("file"), Some(1000), Some(2000)).unwrap();
    let source = volume.to_str().unwrap().to_owned();
    let mount = |at: &str, ids: Value| json!({"destination": at, "type": "bind", "source": source, "options": ["rbind"], "uidMappings": ids, "gidMappings": ids});
    bundle.push("/mounts", mount("/mapped", ids()));
    let other = json!([{"containerID": 0, "hostID": FIRST + 5, "size": 5000}]);
    bundle.push("/mounts", mount("/other", other));
    bundle.push("/mounts", mount("/plain", json!([])));
    let (output, record) = bundle.run();
    assert_eq!(record.code, 0, "{output}");
    let lines: Vec<_> = output
        .lines()
        .filter(|line| !line.contains("denied"))
        .collect();
    assert_eq!(
        lines,
        [
            "0:0 /mapped",
            "1000:2000 /mapped/file",
            "1005:2005 /other/file",
            "65534:65534 /plain/file",
            "0:0",
            "file",
            "new"
        ]
    );
    assert!(output.contains("/plain/new: Permission denied"), "{output}");
    let new = std::fs::metadata(volume.join("new")).unwrap();
    assert_eq!(
        (new.uid(), new.gid()),
        (0, 0),
        "on the disk it is the volume's"
    );
}

/// A tree with a file system below it whose owners cannot be mapped.
#[test]
#[ignore = "needs root"]
fn root_a_tree_is_mapped_as_far_as_it_can_be_or_as_far_as_was_asked() {
    let volume = |options: &[&str]| {
        let mut bundle = bundle("stat -c %u /data; stat -c %u /data/below");
        let source = bundle.path("volume");
        std::fs::create_dir_all(source.join("below")).unwrap();
        let mount = json!({"destination": "/data", "type": "bind", "source": source, "options": options, "uidMappings": ids(), "gidMappings": ids()});
        bundle.push("/mounts", mount);
        (bundle, source.join("below"))
    };
    let mounted = |below: &Path, run: &dyn Fn() -> Result<String, Failure>| {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        mount("proc", below, "proc", MountFlags::empty(), None).unwrap();
        let done = run();
        unmount(below, UnmountFlags::DETACH).unwrap();
        done
    };
    let (widest, below) = volume(&["rbind"]);
    let output = mounted(&below, &|| Ok(widest.run().0)).unwrap();
    assert_eq!(output, "0\n65534\n");
    let (tree, below) = volume(&["rbind", "ridmap"]);
    let failure = mounted(&below, &|| tree.create().map(|_| String::new())).unwrap_err();
    assert!(failure.to_string().contains("cannot map"), "{failure}");
}

#[test]
#[ignore = "needs root"]
fn root_an_exec_is_in_the_same_namespace() {
    let bundle = bundle("sleep 1000");
    let mut container = bundle.create().unwrap();
    container.start().unwrap();
    let script = "id; cat /proc/self/uid_map; echo again > /dev/stdout; (readlink /proc/1/ns/user; readlink /proc/self/ns/user) | uniq | wc -l";
    let (output, code) = exec(&container, &["sh", "-c", script], &json!({}));
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("uid=0(root) gid=0(root)"), "{output}");
    assert!(output.contains(&FIRST.to_string()), "{output}");
    assert!(output.ends_with("again\n1\n"), "{output}");
    let user = json!({"user": {"uid": 1000, "gid": 1000, "additionalGids": [50000]}});
    let (output, _) = exec(&container, &["id"], &user);
    assert!(
        output.contains("uid=1000(user)") && output.contains("50000"),
        "{output}"
    );
    let terminal = json!({"terminal": true, "user": {"uid": 1000, "gid": 1000}});
    let script = "tty; stat -c %u $(tty); echo x > $(tty)";
    let (output, code) = exec(&container, &["sh", "-c", script], &terminal);
    assert_eq!((output.as_str(), code), ("/dev/pts/0\r\n1000\r\nx\r\n", 0));
    container.shut();
}

#[test]
#[ignore = "needs root"]
fn root_a_terminal_is_the_users() {
    let mut bundle = bundle("tty; stat -c %u /dev/console; echo x > /dev/console");
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let (output, record) = bundle.run();
    assert_eq!(record.code, 0, "{output}");
    assert_eq!(output.replace('\r', ""), "/dev/pts/0\n1000\nx\n");
}

#[test]
#[ignore = "needs root"]
fn root_the_kernels_file_systems_are_masked_and_readable() {
    let mut bundle = bundle(
        "wc -c < /proc/timer_list; ls /sys/firmware | wc -l; ls /sys/class/net; ls /sys/fs/cgroup | wc -l; \
         echo 1 > /proc/sys/kernel/panic; echo 1 > /sys/kernel/profiling; cat /proc/sys/kernel/panic > /dev/null; \
         touch /x; grep -c ' /dev/mqueue mqueue ' /proc/mounts",
    );
    bundle.set(
        "/linux/maskedPaths",
        json!(["/proc/timer_list", "/sys/firmware"]),
    );
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]));
    bundle.set("/root/readonly", json!(true));
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    );
    let (output, record) = bundle.run();
    assert_eq!(record.code, 0, "{output}");
    let refused = output
        .lines()
        .filter(|line| line.contains("Read-only"))
        .count();
    assert_eq!(refused, 3, "{output}");
    let lines: Vec<_> = output
        .lines()
        .filter(|line| !line.contains("Read-only"))
        .collect();
    assert_eq!(&lines[..3], ["0", "0", "lo"]);
    assert_ne!(
        lines[3], "0",
        "the container's view of its cgroups: {output}"
    );
    assert_eq!(lines[4], "1");
}

#[test]
#[ignore = "needs root"]
fn root_users_outside_of_the_namespace_are_refused() {
    for user in [
        json!({"uid": LENGTH, "gid": 0}),
        json!({"uid": 0, "gid": LENGTH}),
        json!({"uid": 0, "gid": 0, "additionalGids": [LENGTH]}),
    ] {
        let mut bundle = bundle("true");
        bundle.set("/process/user", user);
        let failure = bundle.create().map(drop).unwrap_err();
        assert_eq!(failure.kind, FailureKind::User, "{failure}");
        assert!(failure.to_string().contains("65536"), "{failure}");
    }
}

#[test]
#[ignore = "needs root"]
fn root_mounts_are_not_shared_with_the_host() {
    let mut bundle = bundle("true");
    bundle.mount("/data", "bind", "/tmp", &["rbind", "rshared"]);
    let failure = bundle.create().map(drop).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert!(failure.to_string().contains("/data"), "{failure}");
}

#[test]
#[ignore = "needs root"]
fn root_files_of_the_hosts_root_stay_out_of_reach() {
    let mut bundle = bundle("cat /secret/file; ls /secret; echo x > /secret/file; id -u");
    let secret = bundle.path("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("file"), "of the host's root\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o700)).unwrap();
    let source = secret.to_str().unwrap().to_owned();
    bundle.mount("/secret", "bind", &source, &["rbind"]);
    let (output, _) = bundle.run();
    assert!(!output.contains("of the host's root"), "{output}");
    assert_eq!(output.matches("denied").count(), 3, "{output}");
    assert!(
        output.lines().any(|line| line == "0"),
        "it is root there: {output}"
    );
}
