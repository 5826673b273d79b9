//! In what the bundles differ that runc and the shim are both given.

use super::PROBE;
use super::container::{Bundle, CAPABILITIES};
use serde_json::{Value, json};

/// Changes a bundle.
pub type Change = fn(&mut Bundle);

fn with_default_paths(bundle: &mut Bundle) {
    bundle.set(
        "/linux/maskedPaths",
        json!([
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/proc/scsi",
            "/sys/firmware",
            "/not/there"
        ]),
    );
    bundle.set(
        "/linux/readonlyPaths",
        json!([
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger"
        ]),
    );
}

fn namespace(bundle: &mut Bundle, kind: &str) {
    bundle.push("/linux/namespaces", json!({"type": kind}));
}

fn capabilities(bundle: &mut Bundle, sets: &[(&str, &[&str])]) {
    let sets: serde_json::Map<_, _> = sets
        .iter()
        .map(|(name, list)| ((*name).to_owned(), json!(list)))
        .collect();
    bundle.set("/process/capabilities", Value::Object(sets));
}

fn cgroup_mount(bundle: &mut Bundle) {
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    );
}

/// Where nothing is said, the shim's volumes are private and runc's follow its root: so it is said.
fn volume(bundle: &mut Bundle, destination: &str, options: &[&str]) {
    let at = bundle.path("volume");
    std::fs::create_dir_all(at.join("below")).unwrap();
    std::fs::write(at.join("file"), "x").unwrap();
    let said = options
        .iter()
        .any(|word| matches!(*word, "rslave" | "rprivate"));
    let rest: &[&str] = if said { &[] } else { &["rprivate"] };
    bundle.mount(
        destination,
        "bind",
        at.to_str().unwrap(),
        &[options, rest].concat(),
    );
}

fn with_filter(bundle: &mut Bundle) {
    bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}));
    bundle.filter = Some(denying_chmod(bundle));
    bundle.set(
        "/process/args",
        json!([
            "/bin/sh",
            "-c",
            format!("busybox chmod 700 /tmp 2>&1; echo $?; {PROBE}")
        ]),
    );
}

/// A name, and how the bundle is changed.
pub const CASES: [(&str, Change); 37] = [
    ("plain", |_| ()),
    ("a numeric user", |bundle| {
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    }),
    ("a user that the image does not know", |bundle| {
        bundle.set("/process/user", json!({"uid": 4321, "gid": 8765}));
    }),
    ("supplementary groups", |bundle| {
        bundle.set(
            "/process/user",
            json!({"uid": 1000, "gid": 1000, "additionalGids": [7, 50000]}),
        );
    }),
    ("supplementary groups of root", |bundle| {
        bundle.set(
            "/process/user",
            json!({"uid": 0, "gid": 0, "additionalGids": [1, 2, 3]}),
        );
    }),
    ("no capabilities", |bundle| capabilities(bundle, &[])),
    ("inheritable capabilities", |bundle| {
        let few: &[&str] = &["CAP_CHOWN", "CAP_NET_RAW"];
        capabilities(
            bundle,
            &[
                ("bounding", few),
                ("permitted", few),
                ("effective", few),
                ("inheritable", few),
            ],
        );
    }),
    ("ambient capabilities of a user", |bundle| {
        let few: &[&str] = &["CAP_NET_BIND_SERVICE", "CAP_KILL"];
        capabilities(
            bundle,
            &[
                ("bounding", few),
                ("permitted", few),
                ("effective", few),
                ("inheritable", few),
                ("ambient", few),
            ],
        );
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    }),
    ("a read-only root", |bundle| {
        bundle.set("/root/readonly", json!(true));
    }),
    ("masked and read-only paths", with_default_paths),
    ("no_new_privs", |bundle| {
        bundle.set("/process/noNewPrivileges", json!(true));
    }),
    ("no_new_privs of a user", |bundle| {
        bundle
            .set("/process/noNewPrivileges", json!(true))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    }),
    ("a volume", |bundle| {
        volume(bundle, "/data", &["rbind", "rw"]);
    }),
    ("a read-only volume", |bundle| {
        volume(bundle, "/data", &["rbind", "ro"]);
    }),
    ("a volume with flags", |bundle| {
        volume(
            bundle,
            "/data/deep/er",
            &["bind", "nosuid", "nodev", "noexec", "noatime"],
        );
    }),
    ("volumes that spread", |bundle| {
        bundle.set("/linux/rootfsPropagation", json!("rslave"));
        volume(bundle, "/slave", &["rbind", "rslave"]);
        volume(bundle, "/private", &["rbind", "rprivate"]);
    }),
    ("a volume inside a volume", |bundle| {
        volume(bundle, "/data", &["rbind"]);
        volume(bundle, "/data/below/deeper", &["rbind", "ro"]);
    }),
    ("files", |bundle| {
        bundle.mount(
            "/etc/hosts",
            "bind",
            "/etc/hosts",
            &["bind", "ro", "private"],
        );
        bundle.mount(
            "/new/file",
            "bind",
            "/etc/hostname",
            &["bind", "ro", "nosuid", "private"],
        );
    }),
    ("a volume behind a link", |bundle| {
        std::fs::create_dir(bundle.image("real")).unwrap();
        std::os::unix::fs::symlink("/real", bundle.image("link")).unwrap();
        volume(bundle, "/link/data", &["rbind"]);
    }),
    ("tmpfs with options", |bundle| {
        bundle.mount(
            "/scratch",
            "tmpfs",
            "tmpfs",
            &[
                "nosuid",
                "noexec",
                "size=1234k",
                "mode=1700",
                "uid=7",
                "gid=8",
                "nr_inodes=99",
            ],
        );
        bundle.mount("/ro", "tmpfs", "scratch", &["ro", "noatime"]);
    }),
    ("limits", |bundle| {
        bundle.set("/process/rlimits", json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NPROC", "soft": 300, "hard": 400}, {"type": "RLIMIT_AS", "soft": 1_u64 << 33, "hard": u64::MAX},
        ]));
    }),
    ("a host name", |bundle| {
        namespace(bundle, "uts");
        bundle.spec["hostname"] = json!("inside");
    }),
    ("devices", |bundle| {
        bundle.set("/linux/devices", json!([
            {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 5, "gid": 6},
            {"type": "b", "path": "/dev/deep/disk", "major": 7, "minor": 0, "fileMode": 0o660, "uid": 0, "gid": 6},
        ]));
    }),
    ("a working directory", |bundle| {
        bundle.set("/process/cwd", json!("/home/user"));
    }),
    ("a working directory that is missing", |bundle| {
        bundle.set("/process/cwd", json!("/not/yet"));
    }),
    ("an environment", |bundle| {
        bundle.set(
            "/process/env",
            json!([
                "PATH=/bin",
                "EMPTY=",
                "SPACE=a b",
                "HOME=/elsewhere",
                "data-1=x"
            ]),
        );
    }),
    ("sysctls", |bundle| {
        namespace(bundle, "network");
        bundle.set(
            "/linux/sysctl",
            json!({"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1"}),
        );
    }),
    ("oom_score_adj", |bundle| {
        bundle.set("/process/oomScoreAdj", json!(567));
    }),
    ("a umask", |bundle| {
        bundle.set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o27}));
    }),
    ("limits of the cgroup", |bundle| {
        cgroup_mount(bundle);
        bundle.set(
            "/linux/resources/memory",
            json!({"limit": 67_108_864, "reservation": 33_554_432, "swap": 67_108_864}),
        );
        bundle.set(
            "/linux/resources/cpu",
            json!({"shares": 333, "quota": 70000, "period": 100_000, "cpus": "0"}),
        );
        bundle.set("/linux/resources/pids", json!({"limit": 55}));
    }),
    ("a cgroup namespace", |bundle| {
        namespace(bundle, "cgroup");
        cgroup_mount(bundle);
    }),
    ("the host's namespaces", |bundle| {
        bundle.set("/linux/namespaces", json!([{"type": "mount"}]));
    }),
    ("a filter", with_filter),
    ("a filter under no_new_privs", |bundle| {
        with_filter(bundle);
        bundle.set("/process/noNewPrivileges", json!(true));
    }),
    ("a filter of a user", |bundle| {
        with_filter(bundle);
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    }),
    ("a filter of a user under no_new_privs", |bundle| {
        with_filter(bundle);
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        bundle.set("/process/noNewPrivileges", json!(true));
    }),
    ("a privileged container", |bundle| {
        let all: Vec<String> = capability_names();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        capabilities(
            bundle,
            &[("bounding", &all), ("permitted", &all), ("effective", &all)],
        );
        bundle.set(
            "/linux/resources/devices",
            json!([{"allow": true, "access": "rwm"}]),
        );
        bundle.spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["destination"] != "/sys");
        bundle.mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "rw"],
        );
        bundle.set("/linux/rootfsPropagation", json!("rslave"));
    }),
];

/// What this host's bounding set holds: runc fails for the rest, where the shim warns.
fn capability_names() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:\t"))
        .unwrap();
    let bounding = u64::from_str_radix(bounding, 16).unwrap();
    let mut names: Vec<String> = CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    for (bit, name) in [
        (12, "CAP_NET_ADMIN"),
        (19, "CAP_SYS_PTRACE"),
        (21, "CAP_SYS_ADMIN"),
        (23, "CAP_SYS_NICE"),
        (38, "CAP_PERFMON"),
    ] {
        if bounding & 1 << bit != 0 {
            names.push(name.to_owned());
        }
    }
    names
}

/// The program that libseccomp would make of the profile, by hand and for this architecture.
fn denying_chmod(bundle: &Bundle) -> std::path::PathBuf {
    let number = u32::try_from(CHMOD).unwrap();
    let program: [(u16, u8, u8, u32); 4] = [
        (0x20, 0, 0, 0),               // load the number of the call
        (0x15, 0, 1, number),          // is it chmod?
        (0x06, 0, 0, 0x0005_0000 | 1), // then EPERM
        (0x06, 0, 0, 0x7fff_0000),     // else go on
    ];
    let mut bytes = Vec::new();
    for (code, jt, jf, k) in program {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
    }
    let path = bundle.path("filter");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[cfg(target_arch = "x86_64")]
const CHMOD: i64 = 90;
/// There is no `chmod` there, and busybox uses this.
#[cfg(target_arch = "aarch64")]
const CHMOD: i64 = 53;
