//! Containers made of bundles, looked at from inside and outside. Need root.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "create/container.rs"]
#[expect(dead_code, reason = "shared with another tier, which uses the rest")]
mod container;

use container::{Bundle, cgroups, until};
use corten_shim::api::FailureKind;
use serde_json::json;
use std::path::Path;

fn lines(output: &str) -> Vec<&str> {
    output.lines().collect()
}

#[test]
#[ignore = "needs root"]
fn root_the_container_is_alone_and_holds_nothing_of_the_host() {
    let bundle = Bundle::new(
        "echo $$; echo /proc/[0-9]*; for fd in /proc/self/fd/*; do echo ${fd##*/}; done | sort -n | head -3; ls /proc/self/fd | wc -l; pwd; ls /",
    );
    let (output, record) = bundle.run();
    let lines = lines(&output);
    assert_eq!(record.code, 0);
    assert_eq!(lines[0], "1");
    assert_eq!(lines[1], "/proc/1", "nobody but the shell");
    assert_eq!(&lines[2..5], ["0", "1", "2"]);
    assert_eq!(lines[5], "4", "0 to 2, and the one that ls reads");
    assert_eq!(lines[6], "/");
    assert_eq!(
        &lines[7..],
        ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp"]
    );
    assert_eq!(cgroups(bundle.id()), Vec::<std::path::PathBuf>::new());
}

#[test]
#[ignore = "needs root"]
fn root_paths_are_masked_and_read_only() {
    let mut bundle = Bundle::new(
        "wc -c < /proc/timer_list; ls /sys/firmware | wc -l; cat /etc/secret; echo 1 > /proc/sys/kernel/panic; mkdir /tmp/x; mkdir /x; mount -o remount,rw /proc/sys",
    );
    std::fs::write(bundle.image("etc/secret"), "secret").unwrap();
    bundle.set("/root/readonly", json!(true));
    bundle.set(
        "/linux/maskedPaths",
        json!([
            "/proc/timer_list",
            "/sys/firmware",
            "/etc/secret",
            "/not/there",
            "/etc/secret/below"
        ]),
    );
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys", "/not/there"]));
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["mode=1777"]);
    let (output, record) = bundle.run();
    let lines = lines(&output);
    assert_eq!(&lines[..2], ["0", "0"], "{output}");
    assert!(!output.contains("secret\n"), "{output}");
    assert_eq!(
        output.matches("Read-only file system").count(),
        2,
        "{output}"
    );
    assert_ne!(
        record.code, 0,
        "remounting needs a capability that it lacks"
    );
}

#[test]
#[ignore = "needs root"]
fn root_links_of_an_image_do_not_lead_mounts_outside() {
    let outside = tempfile::tempdir().unwrap();
    let mut bundle = Bundle::new("ls -d /evil/made /up/made /dangling/made; ls /etc/mark");
    let link =
        |target: &Path, name: &str| std::os::unix::fs::symlink(target, bundle.image(name)).unwrap();
    link(outside.path(), "evil");
    link(Path::new("../../../../../../../../../../etc"), "up");
    link(Path::new("/nowhere/yet"), "dangling");
    bundle.mount("/evil/made", "tmpfs", "tmpfs", &[]);
    bundle.mount("/up/made", "tmpfs", "tmpfs", &[]);
    bundle.mount("/dangling/made", "tmpfs", "tmpfs", &[]);
    bundle.mount("/up/mark", "bind", "/proc/version", &["bind"]);
    let (output, record) = bundle.run();
    assert_eq!((record.code, lines(&output).len()), (0, 4), "{output}");
    assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    assert!(!Path::new("/etc/made").exists() && !Path::new("/etc/mark").exists());
}

#[test]
#[ignore = "needs root"]
fn root_nothing_is_mounted_inside_proc_and_proc_is_no_link() {
    let mut inside = Bundle::new("true");
    inside.mount("/proc/self/attr", "tmpfs", "tmpfs", &[]);
    assert_eq!(inside.create().err().unwrap().kind, FailureKind::Invalid);
    let mut by_link = Bundle::new("true");
    std::os::unix::fs::symlink("/proc/sys", by_link.image("sneaky")).unwrap();
    by_link.mount("/sneaky", "tmpfs", "tmpfs", &[]);
    assert_eq!(by_link.create().err().unwrap().kind, FailureKind::Invalid);
    let linked = Bundle::new("true");
    std::fs::remove_dir(linked.image("proc")).unwrap();
    std::os::unix::fs::symlink("/tmp", linked.image("proc")).unwrap();
    let failure = linked.create().err().unwrap();
    assert_eq!(
        (failure.kind, failure.errno),
        (FailureKind::Mount, libc::ELOOP),
        "{failure}"
    );
    assert_eq!(cgroups(linked.id()).len(), 0, "nothing is left");
}

#[test]
#[ignore = "needs root"]
fn root_a_false_null_device_hides_nothing_and_fails() {
    let mut bundle = Bundle::new("true");
    // A /dev of the image's own, where the default node cannot be made.
    bundle.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    std::fs::write(bundle.image("dev/null"), "not null").unwrap();
    bundle.set("/linux/maskedPaths", json!(["/proc/timer_list"]));
    assert_eq!(bundle.create().err().unwrap().kind, FailureKind::Invalid);
}

#[test]
#[ignore = "needs root"]
fn root_volumes_spread_as_asked() {
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("file"), "of the host").unwrap();
    let at = host.path().to_str().unwrap();
    let mut bundle = Bundle::new(
        "cat /data/file; touch /data/x; touch /rw/y; ls /rw; grep ' /data ' /proc/self/mountinfo; cat /single",
    );
    bundle.mount("/data", "bind", at, &["rbind", "ro", "nosuid", "noexec"]);
    bundle.mount("/rw", "bind", at, &["rbind", "rw"]);
    bundle.mount(
        "/single",
        "bind",
        host.path().join("file").to_str().unwrap(),
        &["bind", "rro"],
    );
    let (output, _) = bundle.run();
    assert!(
        output.starts_with("of the hosttouch: /data/x: Read-only")
            || output.contains("Read-only file system"),
        "{output}"
    );
    assert!(host.path().join("y").exists() && !host.path().join("x").exists());
    assert!(output.contains("ro,nosuid,noexec"), "{output}");
    assert!(output.ends_with("of the host"), "{output}");
}

#[test]
#[ignore = "needs root"]
fn root_users_are_looked_up_in_the_image() {
    let mut named = Bundle::new("id -u; id -g; id -G; echo $HOME; stat -c %u /proc/self/fd/1 -L");
    named.set(
        "/process/user",
        json!({"uid": 0, "gid": 0, "username": "user", "additionalGids": [1234]}),
    );
    let container_user = {
        let mut container = named.create().unwrap();
        container.start().unwrap();
        container.exited();
        container.status.user.clone().unwrap()
    };
    assert_eq!(
        (
            container_user.uid,
            container_user.gid,
            container_user.groups
        ),
        (1000, 1000, vec![1000, 50000, 1234])
    );
    let output = named.output();
    assert_eq!(&lines(&output)[..2], ["1000", "1000"]);
    assert_eq!(
        lines(&output)[3..],
        ["/home/user", "1000"],
        "its pipes are its own"
    );
    let mut strict = Bundle::new("id -G");
    strict.set(
        "/process/user",
        json!({"uid": 0, "gid": 0, "username": "1000:web", "additionalGids": [1234]}),
    );
    strict.set(
        "/annotations",
        json!({"corten.dev/supplemental-groups-policy": "Strict"}),
    );
    assert_eq!(strict.run().0, "1004 1234\n");
    let mut ghost = Bundle::new("true");
    ghost.set(
        "/process/user",
        json!({"uid": 0, "gid": 0, "username": "ghost"}),
    );
    assert_eq!(ghost.create().err().unwrap().kind, FailureKind::User);
}

#[test]
#[ignore = "needs root"]
fn root_a_program_that_cannot_be_executed_says_why() {
    for (args, words) in [
        (json!(["/no/such"]), "no such file in the image"),
        (json!(["nosuch"]), "PATH"),
        (json!(["/etc/passwd"]), "may execute"),
        (json!(["/bin"]), "may execute"),
        (json!(["/proc/self/exe"]), "runtime's own program"),
        (json!(["/behind"]), "runtime's own program"),
        (json!(["/lost"]), "interpreter"),
    ] {
        let mut bundle = Bundle::new("");
        for (name, text) in [("behind", "#!/proc/self/exe\n"), ("lost", "#!/no/such\n")] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(bundle.image(name), text).unwrap();
            std::fs::set_permissions(bundle.image(name), std::fs::Permissions::from_mode(0o755))
                .unwrap();
        }
        bundle.set("/process/args", args.clone());
        let mut container = bundle.create().unwrap();
        let failure = container.start().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Start, "{args}");
        assert!(failure.to_string().contains(words), "{args}: {failure}");
        assert_eq!(container.exited().code, 128);
    }
}

#[test]
#[ignore = "needs root"]
fn root_the_working_directory_is_made_and_must_be_inside() {
    let mut bundle = Bundle::new("pwd");
    bundle.set("/process/cwd", json!("/made/for/it"));
    assert_eq!(bundle.run().0, "/made/for/it\n");
    for outside in ["/proc/self/fd/7", "/proc/self/fd/3", "/etc/passwd"] {
        let mut bundle = Bundle::new("pwd");
        bundle.set("/process/cwd", json!(outside));
        let started = bundle.create().and_then(|mut container| container.start());
        assert!(started.is_err(), "{outside}");
    }
}

#[test]
#[ignore = "needs root"]
fn root_a_waiting_init_gives_nothing_away() {
    let waiting = Bundle::new("true");
    let container = waiting.create().unwrap();
    let pid = container.status.pid;
    // What makes it the container's process goes on while the daemon is told.
    let fds = || std::fs::read_dir(format!("/proc/{pid}/fd"));
    until("it has its stdio and the gate alone", || {
        fds().unwrap().count() == 4
    });
    // Another container that sees it, and has the same user and capabilities, must not reach the
    // shim's program through it.
    let mut other = Bundle::new(&format!(
        "readlink /proc/{pid}/exe; test -d /proc/{pid} && echo seen"
    ));
    other.set(
        "/linux/namespaces",
        json!([{"type": "mount"}, {"type": "ipc"}]),
    );
    assert_eq!(other.run().0, "seen\n");
}

#[test]
#[ignore = "needs root"]
fn root_a_terminal_is_the_containers_own() {
    let mut bundle = Bundle::new(
        "tty; stty size; ls -l /dev/console | cut -c1; test -t 2 && echo terminal; ls -1 /dev/pts",
    );
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({"height": 11, "width": 77}));
    let (output, record) = bundle.run();
    let output = output.replace('\r', "");
    assert_eq!(record.code, 0, "{output}");
    assert!(output.starts_with("/dev/pts/0\n11 77\n"), "{output}");
    assert!(output.contains("terminal\n0\nptmx\n"), "{output}");
}

/// A mount of the host that the test takes away again.
struct HostMount(std::path::PathBuf);

impl HostMount {
    fn shared(path: &Path) -> Self {
        rustix::mount::mount_bind(path, path).unwrap();
        let made = Self(path.to_owned());
        rustix::mount::mount_change(path, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        made
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
#[ignore = "needs root"]
fn root_mounts_travel_as_far_as_the_propagation_says() {
    for (propagation, seen_inside, seen_outside) in [
        ("rprivate", false, false),
        ("rslave", true, false),
        ("rshared", true, true),
    ] {
        let host = tempfile::tempdir().unwrap();
        let _mount = HostMount::shared(host.path());
        for name in ["from-host", "from-container"] {
            std::fs::create_dir(host.path().join(name)).unwrap();
        }
        let mut bundle = Bundle::new(
            "mount -t tmpfs tmpfs /data/from-container && touch /data/from-container/mark /tmp/mounted; sleep 1000",
        );
        bundle.mount(
            "/data",
            "bind",
            host.path().to_str().unwrap(),
            &["rbind", propagation],
        );
        for set in ["bounding", "effective", "permitted"] {
            bundle.push(
                &format!("/process/capabilities/{set}"),
                json!("CAP_SYS_ADMIN"),
            );
        }
        let mut container = bundle.create().unwrap();
        let below = host.path().join("from-host");
        rustix::mount::mount(
            "tmpfs",
            &below,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .unwrap();
        std::fs::write(below.join("mark"), "").unwrap();
        container.start().unwrap();
        until("it has mounted", || {
            bundle.path("upper/tmp/mounted").exists()
        });
        let mut exec = container.exec(&["ls", "/data/from-host"], &json!({}));
        assert_eq!(exec.output() == "mark\n", seen_inside, "{propagation}");
        exec.exited();
        assert_eq!(
            host.path().join("from-container/mark").exists(),
            seen_outside,
            "{propagation}"
        );
        container.shut();
        rustix::mount::unmount(&below, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn root_a_pid_namespace_is_joined_by_path() {
    let mut holder = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "sleep", "1000"])
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", holder.id());
    until("the holder has its child", || {
        !std::fs::read_to_string(&children).unwrap().is_empty()
    });
    let first = std::fs::read_to_string(&children)
        .unwrap()
        .trim()
        .to_owned();
    let mut bundle = Bundle::new("cat /proc/1/comm; test $$ != 1 && echo second");
    bundle.set("/linux/namespaces", json!([{"type": "mount"}, {"type": "ipc"}, {"type": "pid", "path": format!("/proc/{first}/ns/pid")}]));
    let (output, record) = bundle.run();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!((record.code, lines(&output)), (0, vec!["sleep", "second"]));
}

#[test]
#[ignore = "needs root"]
fn root_small_limits_do_not_stop_the_init() {
    let mut bundle = Bundle::new("ulimit -n");
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 5}]),
    );
    assert_eq!(bundle.run().0, "5\n");
}

#[test]
#[ignore = "needs root"]
fn root_a_privileged_terminal_with_the_hosts_devices() {
    let mut bundle =
        Bundle::new("tty; ls -l /dev/console | cut -c1; test -e /dev/kmsg && echo kmsg");
    bundle.set("/process/terminal", json!(true));
    bundle.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.mount("/dev", "bind", "/dev", &["rbind", "rprivate"]);
    let (output, record) = bundle.run();
    assert_eq!(record.code, 0, "{output}");
    assert!(
        output.starts_with("/dev/pts/") && output.replace('\r', "").ends_with("c\nkmsg\n"),
        "{output}"
    );
}

#[test]
#[ignore = "needs root"]
fn root_layers_that_the_new_call_refuses_are_mounted_by_the_old_one() {
    let mut bundle = Bundle::new("grep ' / / ' /proc/self/mountinfo; touch /made");
    bundle.detour = "/.".repeat(150);
    // So many paths are ten times what one page holds.
    bundle.above = 126;
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (output, record) = bundle.run();
    assert_eq!(record.code, 0, "{output}");
    assert!(output.contains("overlay"), "{output}");
    assert!(bundle.path("upper/made").exists());
    assert!(
        !mounts().contains(bundle.directory().to_str().unwrap()),
        "nothing is mounted on the host"
    );
}
