//! The same bundles given to runc and to the shim: what a program sees inside must not differ but
//! where it says so here, and why. Need root and runc (`$CORTEN_RUNC`, `$RUNC`, or in the PATH).

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "create/container.rs"]
#[expect(dead_code, reason = "shared with another tier, which uses the rest")]
mod container;

#[path = "create/cases.rs"]
mod cases;

use cases::{CASES, Change};
use container::Bundle;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;
use std::io::Read;
use std::process::{Command, Stdio};

/// What is looked at. Every section begins with a line of its name.
const PROBE: &str = r#"
section() { echo "== $1"; }
section id; id -u; id -g; id -G
section status; grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|SigBlk|SigIgn|Umask)' /proc/self/status
section session; cut -d' ' -f4-7 < /proc/$$/stat
section limits; cat /proc/self/limits
section mounts; cat /proc/self/mountinfo
section dev; for node in /dev /dev/* /dev/pts/ptmx; do stat -c '%n|%F|%t:%T|%a|%u:%g' $node; readlink $node; done
section env; env | sort
section cwd; pwd; stat -c '%a %u:%g' .
section names; hostname; cat /proc/sys/kernel/domainname
section oom; cat /proc/self/oom_score_adj
section fds; for fd in /proc/self/fd/*; do readlink $fd; done | sed 's/[0-9][0-9][0-9]*/N/' | sort | uniq
section cgroup; cat /proc/self/cgroup; for file in /sys/fs/cgroup/*/memory.limit_in_bytes /sys/fs/cgroup/*/memory.memsw.limit_in_bytes /sys/fs/cgroup/*/memory.soft_limit_in_bytes /sys/fs/cgroup/*/cpu.shares /sys/fs/cgroup/*/cpu.cfs_quota_us /sys/fs/cgroup/*/cpu.cfs_period_us /sys/fs/cgroup/*/pids.max /sys/fs/cgroup/*/cpuset.cpus /sys/fs/cgroup/*/cpuset.mems; do echo $file $(cat $file 2>&1); done
section namespaces; for kind in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$kind; done
section sysctls; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start
section tty; tty
section init; cat /proc/1/comm; ls /; readlink /proc/self/root
"#;

/// A difference that is meant: the section, how the line begins, and why.
const MEANT: [(&str, &str, &str); 9] = [
    (
        "mounts",
        "BUNDLE/volume /slave rw,relatime ",
        "runc 1.5 makes this one private where the host's is shared; that the shim keeps it a slave is proven in root_create",
    ),
    (
        "status",
        "SigIgn:",
        "runc hands on what its caller ignores; the shim gives every signal its default",
    ),
    (
        "fds",
        "/dev/null",
        "a container without a stdin reads /dev/null; runc hands on its caller's",
    ),
    (
        "mounts",
        "/ /proc/acpi ro,relatime - tmpfs tmpfs",
        "the shim's empty directory holds no more than itself: nr_inodes=1",
    ),
    (
        "mounts",
        "/ /proc/scsi ro,relatime - tmpfs tmpfs",
        "the same",
    ),
    (
        "mounts",
        "/ /sys/firmware ro,relatime - tmpfs tmpfs",
        "the same",
    ),
    (
        "mounts",
        "/ /sys ro,nosuid,nodev,noexec,relatime - sysfs",
        "the mount is read-only under both; runc makes the superblock so, for all containers of the network namespace",
    ),
    (
        "mounts",
        "/ /sys/fs/cgroup r",
        "runc leaves the directory of a read-only view writable; the shim does not",
    ),
    (
        "mounts",
        "/ /sys/fs/cgroup/systemd ro,nosuid,nodev,noexec,relatime - cgroup",
        "the source is a word that nobody reads",
    ),
];
fn runc() -> Command {
    let named = std::env::var_os("CORTEN_RUNC").or_else(|| std::env::var_os("RUNC"));
    Command::new(named.unwrap_or_else(|| "runc".into()))
}

fn bundle(change: Change) -> Bundle {
    let mut bundle = Bundle::new(PROBE);
    bundle.plain();
    change(&mut bundle);
    bundle
}

fn run_by_runc(bundle: &Bundle) -> String {
    bundle.write();
    let state = bundle.path("state");
    let child = runc()
        .arg("--root")
        .arg(state)
        .args(["run", "--bundle"])
        .arg(bundle.directory())
        .arg(bundle.id())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = child
        .expect("runc is installed")
        .wait_with_output()
        .unwrap();
    let all = format!(
        "{}{}",
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap()
    );
    normal(&all, bundle)
}

fn run_by_shim(bundle: &Bundle) -> String {
    let (output, _) = bundle.run();
    normal(&output, bundle)
}

/// Takes away what differs from one container to the next.
fn normal(output: &str, bundle: &Bundle) -> String {
    let directory = bundle.directory().to_str().unwrap();
    let output = output
        .replace(directory, "BUNDLE")
        .replace(bundle.id(), "ID");
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            section = name.to_owned();
        }
        lines.push(match section.as_str() {
            "mounts" => normal_mount(line),
            "session" => normal_session(line),
            "namespaces" => normal_namespace(line),
            _ => line.to_owned(),
        });
    }
    sorted_mounts(lines).join("\n")
}

/// A line of mountinfo without its numbers, where the root is a directory that only this bundle has.
fn normal_mount(line: &str) -> String {
    let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    if words.len() < 7 {
        return line.to_owned();
    }
    words.drain(..3);
    // A mount's root is told as its file system has it: on a machine whose own root is a part of one,
    // with that part's path before it.
    if let Some(at) = words[0].find("BUNDLE") {
        words[0].drain(..at);
    }
    for word in &mut words {
        if let Some((name, _)) = word.split_once(':')
            && matches!(name, "shared" | "master" | "propagate_from")
        {
            *word = name.to_owned();
        }
    }
    // runc leaves the root and the view of the cgroups slaves of shared mounts that they are taken
    // from; under the shim no mount of the host comes up below them.
    let ours = matches!(words[1].as_str(), "/") || words[1].starts_with("/sys/fs/cgroup");
    words.retain(|word| !(ours && word == "master"));
    words.join(" ")
}

/// Mounts in the order of their places: in which order they were made is not to be seen.
fn sorted_mounts(lines: Vec<String>) -> Vec<String> {
    let begin = lines
        .iter()
        .position(|line| line == "== mounts")
        .map_or(0, |at| at + 1);
    let length = lines[begin..]
        .iter()
        .position(|line| line.starts_with("== "))
        .unwrap_or(0);
    let mut lines = lines;
    lines[begin..begin + length]
        .sort_by_key(|line| line.split(' ').nth(1).unwrap_or("").to_owned());
    lines
}

/// The parent's pid, the group, the session and the terminal: whether it leads, not what its number is.
fn normal_session(line: &str) -> String {
    match line.split(' ').collect::<Vec<_>>().as_slice() {
        [_, group, session, terminal] => format!("leads {} terminal {terminal}", group == session),
        _ => line.to_owned(),
    }
}

fn normal_namespace(line: &str) -> String {
    let Some((kind, _)) = line.split_once(":[") else {
        return line.to_owned();
    };
    let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let whose = if host.to_str() == Some(line) {
        "the host's"
    } else {
        "its own"
    };
    format!("{kind} {whose}")
}

/// The lines that differ, without those that are meant to.
fn differences(runc: &str, shim: &str) -> Vec<String> {
    let sections = |text: &str| {
        let mut name = String::new();
        let mut all = Vec::new();
        for line in text.lines() {
            if let Some(next) = line.strip_prefix("== ") {
                name = next.to_owned();
            }
            all.push((name.clone(), line.to_owned()));
        }
        all
    };
    let (runc, shim) = (sections(runc), sections(shim));
    let meant = |(section, line): &(String, String)| {
        MEANT
            .iter()
            .any(|(of, begin, _)| of == section && line.starts_with(begin))
    };
    let only = |of: &[(String, String)], not_in: &[(String, String)], who: &str| -> Vec<String> {
        of.iter()
            .filter(|line| !not_in.contains(line) && !meant(line))
            .map(|(section, line)| format!("{who} {section}: {line}"))
            .collect()
    };
    let mut all = only(&runc, &shim, "runc");
    all.extend(only(&shim, &runc, "shim"));
    all
}

#[test]
#[ignore = "needs root and runc"]
fn root_a_program_sees_the_same_under_both() {
    let mut failed = Vec::new();
    for (name, change) in CASES {
        let runc = run_by_runc(&bundle(change));
        let shim = run_by_shim(&bundle(change));
        assert!(
            runc.lines().count() > 40,
            "{name}: runc did not run the probe: {runc}"
        );
        let found = differences(&runc, &shim);
        if !found.is_empty() {
            failed.push(format!("{name}:\n  {}", found.join("\n  ")));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} differ\n{}",
        failed.len(),
        CASES.len(),
        failed.join("\n")
    );
}

/// A process whose namespaces a container can join by their paths.
struct Holder(std::process::Child);

impl Holder {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "--ipc",
                "--uts",
                "sh",
                "-c",
                "hostname joined; echo ready; exec sleep 1000",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut [0; 5])
            .unwrap();
        Self(child)
    }

    fn join(&self, bundle: &mut Bundle) {
        let pid = self.0.id();
        for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            let all = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
            all.retain(|namespace| namespace["type"] != kind);
            all.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root and runc"]
fn root_namespaces_are_joined_by_path_under_both() {
    let holder = Holder::new();
    let joined = || {
        let mut bundle = bundle(|_| ());
        holder.join(&mut bundle);
        bundle
    };
    let (runc, shim) = (run_by_runc(&joined()), run_by_shim(&joined()));
    assert!(shim.contains("\njoined\n"), "{shim}");
    assert_eq!(differences(&runc, &shim), Vec::<String>::new());
}

fn with_terminal() -> Bundle {
    let mut bundle = bundle(|_| ());
    bundle
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 24, "width": 80}));
    bundle.set(
        "/process/args",
        json!([
            "/bin/sh",
            "-c",
            format!("stty size; stat -c '%n|%F|%t:%T|%a|%u:%g' /dev/console; {PROBE}")
        ]),
    );
    bundle
}

/// runc hands its own terminal's bytes through, so it gets one.
fn run_by_runc_on_a_terminal(bundle: &Bundle) -> String {
    bundle.write();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&master).unwrap();
    tcsetwinsize(
        &master,
        Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
    let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let stdio = || Stdio::from(peer.try_clone().unwrap());
    let state = bundle.path("state");
    let mut command = runc();
    command
        .arg("--root")
        .arg(state)
        .args(["run", "--bundle"])
        .arg(bundle.directory())
        .arg(bundle.id());
    let mut child = command
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn()
        .unwrap();
    drop((command, peer));
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = rustix::io::read(&master, &mut buffer) {
        all.extend_from_slice(&buffer[..length]);
    }
    child.wait().unwrap();
    normal(&String::from_utf8(all).unwrap().replace('\r', ""), bundle)
}

#[test]
#[ignore = "needs root and runc"]
fn root_a_terminal_is_the_same_under_both() {
    let runc = run_by_runc_on_a_terminal(&with_terminal());
    let shim = run_by_shim(&with_terminal()).replace('\r', "");
    assert!(shim.starts_with("24 80\n"), "{shim}");
    assert_eq!(differences(&runc, &shim), Vec::<String>::new());
}

#[test]
#[ignore = "needs root and runc"]
fn root_both_refuse_what_cannot_be() {
    let refused: [(&str, Change); 4] = [
        ("no program", |bundle| {
            bundle.set("/process/args", json!(["/no/such"]));
        }),
        ("no source of a mount", |bundle| {
            bundle.mount("/x", "bind", "/no/such/source", &["bind"]);
        }),
        ("a sysctl of the host", |bundle| {
            bundle.set("/linux/sysctl", json!({"vm.overcommit_memory": "1"}));
        }),
        ("a host name without its namespace", |bundle| {
            bundle.spec["hostname"] = json!("x");
        }),
    ];
    for (name, change) in refused {
        let by_runc = bundle(change);
        by_runc.write();
        let state = by_runc.path("state");
        let status = runc()
            .arg("--root")
            .arg(state)
            .args(["run", "--bundle"])
            .arg(by_runc.directory())
            .arg(by_runc.id())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "{name}: runc takes it");
        let by_shim = bundle(change);
        let refused = match by_shim.create() {
            Err(_) => true,
            Ok(mut container) => container.start().is_err(),
        };
        assert!(refused, "{name}: the shim takes it");
    }
}
