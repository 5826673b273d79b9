//! Namespaces, devices, cgroup and labels.

use super::*;

#[test]
fn a_privileged_container_has_what_the_node_can_give() {
    let mut asked = asked();
    asked.config.security.privileged = true;
    asked.config.security.masked_paths = words("/proc/kcore");
    asked.config.security.readonly_paths = words("/proc/sys");
    asked.config.security.seccomp = Profile::RuntimeDefault;
    let spec = asked.spec();
    let linux = spec.linux().as_ref().unwrap();
    let capabilities = asked.process().capabilities().clone().unwrap();
    assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 40);
    assert_eq!(linux.masked_paths().as_deref(), Some(&[][..]));
    assert_eq!(linux.readonly_paths().as_deref(), Some(&[][..]));
    assert!(linux.seccomp().is_none());
    let rules = linux
        .resources()
        .as_ref()
        .unwrap()
        .devices()
        .clone()
        .unwrap();
    assert_eq!(rules.len(), 1);
    assert!(rules[0].allow() && rules[0].typ().is_none());
    assert!(asked.options_at("/sys").contains(&"rw".into()));
    assert!(asked.options_at("/sys/fs/cgroup").contains(&"rw".into()));
}

#[test]
fn paths_are_masked_as_asked_and_by_default_where_nothing_was_asked() {
    let mut asked = asked();
    let masked = |asked: &Asked| asked.linux().masked_paths().clone().unwrap();
    for path in ["/proc/kcore", "/proc/keys", "/sys/firmware"] {
        assert!(masked(&asked).iter().any(|masked| masked == path), "{path}");
    }
    let readonly = asked.linux().readonly_paths().clone().unwrap();
    assert!(readonly.contains(&"/proc/sys".into()), "{readonly:?}");
    asked.config.security.masked_paths = words("/bin/ls");
    asked.config.security.readonly_paths = words("/tmp");
    assert_eq!(masked(&asked), ["/bin/ls"]);
    assert_eq!(asked.linux().readonly_paths().clone().unwrap(), ["/tmp"]);
}

/// Where a namespace of this kind comes from: `None` is the node's, `""` a new one.
fn namespace(asked: &Asked, kind: LinuxNamespaceType) -> Option<String> {
    let all = asked.linux().namespaces().clone().unwrap();
    let found = all.iter().find(|namespace| namespace.typ() == kind)?;
    let path = found.path().clone().unwrap_or_default();
    Some(path.to_string_lossy().into_owned())
}

#[test]
fn pinned_namespaces_are_joined_and_the_rest_is_the_nodes() {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, User, Uts};
    let mut asked = asked();
    let of = |asked: &Asked, kind| namespace(asked, kind);
    assert_eq!(of(&asked, Network).as_deref(), Some("/run/netns/corten-a"));
    assert_eq!(of(&asked, Ipc).as_deref(), Some("/run/corten/a/ipc"));
    assert_eq!(of(&asked, Uts).as_deref(), Some("/run/corten/a/uts"));
    assert_eq!(of(&asked, Mount).as_deref(), Some(""));
    assert_eq!((of(&asked, Cgroup), of(&asked, User)), (None, None));
    assert_eq!(asked.spec().hostname(), &None);
    asked.sandbox.namespaces = Namespaces::default();
    assert_eq!((of(&asked, Network), of(&asked, Ipc)), (None, None));
    asked.host.cgroups = CgroupMode::Unified;
    assert_eq!(of(&asked, Cgroup).as_deref(), Some(""));
    asked.config.security.privileged = true;
    assert_eq!(of(&asked, Cgroup), None);
}

#[test]
fn a_pid_namespace_is_shared_owned_targeted_or_the_nodes() {
    use NamespaceMode::{Container, Node, Pod, Target};
    // the container's mode, the pod's mode, pinned → where it comes from
    for (mode, pod, pinned, want) in [
        (Pod, Pod, true, Some("/run/corten/a/pid")),
        (Pod, Container, false, Some("")),
        (Pod, Node, false, None),
        (Container, Pod, true, Some("")),
        (Node, Node, false, None),
        (Target, Container, false, Some("/proc/42/ns/pid")),
    ] {
        let mut asked = asked();
        asked.config.security.namespaces.pid = mode;
        asked.sandbox.config.security.namespaces.pid = pod;
        asked.target_pid = Some(42);
        if !pinned {
            asked.sandbox.namespaces.pid = None;
        }
        let got = namespace(&asked, LinuxNamespaceType::Pid);
        assert_eq!(got.as_deref(), want, "{mode:?} in {pod:?}");
    }
    let mut ended = asked();
    ended.config.security.namespaces.pid = Target;
    let error = ended.build().unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
}

fn device(permissions: &str) -> ResolvedDevice {
    ResolvedDevice {
        container_path: "/dev/fuse".into(),
        kind: DeviceKind::Character,
        major: 10,
        minor: 229,
        mode: 0o20666,
        uid: 0,
        gid: 0,
        permissions: permissions.into(),
    }
}

#[test]
fn devices_become_nodes_and_rules() {
    let mut asked = asked();
    asked.devices.push(device("rw"));
    let linux = asked.linux();
    let node = &linux.devices().as_ref().unwrap()[0];
    assert_eq!((node.major(), node.minor()), (10, 229));
    assert_eq!(node.file_mode(), Some(0o666));
    let rules = linux
        .resources()
        .as_ref()
        .unwrap()
        .devices()
        .clone()
        .unwrap();
    assert!(!rules[0].allow(), "all is denied first");
    assert!(rules[1..].iter().all(LinuxDeviceCgroup::allow));
    let last = rules.last().unwrap();
    assert_eq!((last.major(), last.minor()), (Some(10), Some(229)));
    assert_eq!(last.access().as_deref(), Some("rw"));
    asked.devices[0] = device("rwx");
    assert_eq!(asked.build().unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
fn limits_hold_only_what_is_set() {
    let mut asked = asked();
    let limits = |asked: &Asked| asked.linux().resources().clone().unwrap();
    assert!(limits(&asked).cpu().is_none() && limits(&asked).memory().is_none());
    let wanted = &mut asked.config.resources;
    wanted.cpu_shares = 512;
    wanted.cpu_quota = -1;
    wanted.memory_limit = 1 << 20;
    wanted.memory_swap_limit = 1 << 20;
    wanted.hugepage_limits = vec![("2MB".into(), 0)];
    let got = limits(&asked);
    let cpu = got.cpu().as_ref().unwrap();
    assert_eq!(
        (cpu.shares(), cpu.quota(), cpu.period()),
        (Some(512), Some(-1), None)
    );
    let memory = got.memory().as_ref().unwrap();
    assert_eq!(
        (memory.limit(), memory.swap()),
        (Some(1 << 20), Some(1 << 20))
    );
    assert_eq!(got.hugepage_limits().as_ref().unwrap().len(), 1);
    asked.host.swap_accounting = false;
    asked.host.controllers.clear();
    let got = limits(&asked);
    assert_eq!(got.memory().as_ref().unwrap().swap(), None);
    assert!(got.hugepage_limits().is_none());
}

/// What is changed, and the kind of error that comes of it.
type Refusal = (Kind, fn(&mut Asked));

#[test]
fn limits_that_cannot_be_are_refused() {
    let change: [Refusal; 6] = [
        (Kind::InvalidArgument, |a| {
            a.config.resources.cpu_shares = -1;
        }),
        (Kind::InvalidArgument, |a| {
            a.config.resources.oom_score_adj = 1001;
        }),
        (Kind::InvalidArgument, |a| {
            a.config.resources.memory_limit = 10;
            a.config.resources.memory_swap_limit = 5;
        }),
        (Kind::InvalidArgument, |a| {
            a.config.resources.hugepage_limits = vec![("../x".into(), 1)];
        }),
        (Kind::FailedPrecondition, |a| {
            a.config
                .resources
                .unified
                .insert("memory.high".into(), "1".into());
        }),
        (Kind::InvalidArgument, |a| {
            a.host.cgroups = CgroupMode::Unified;
            a.config
                .resources
                .unified
                .insert("../cgroup.procs".into(), "1".into());
        }),
    ];
    for (number, (kind, change)) in change.into_iter().enumerate() {
        let mut asked = asked();
        change(&mut asked);
        let error = asked
            .build()
            .expect_err(&format!("case {number} was taken"));
        assert_eq!(error.kind(), kind, "case {number}");
    }
}

#[test]
fn the_cgroup_ends_in_the_containers_id() {
    let mut asked = asked();
    let id = asked.id.clone();
    let path = |asked: &Asked| cgroup_path(&asked.sandbox, &asked.id);
    let sandbox = asked.sandbox.id.clone();
    assert_eq!(
        path(&asked).unwrap(),
        format!("/corten/pods/{sandbox}/{id}")
    );
    asked.sandbox.config.cgroup_parent = "/kubepods/podx/".into();
    assert_eq!(path(&asked).unwrap(), format!("/kubepods/podx/{id}"));
    let spec = asked.linux();
    let in_spec = spec.cgroups_path().as_ref().unwrap();
    assert_eq!(in_spec, Path::new(&path(&asked).unwrap()));
    asked.sandbox.config.cgroup_parent = "/a/../../b".into();
    assert!(path(&asked).is_err());
}

#[test]
fn the_default_apparmor_profile_is_for_those_who_do_not_refuse_it() {
    let mut asked = asked();
    let profile = |asked: &Asked| asked.process().apparmor_profile().clone();
    (asked.host.apparmor, asked.host.apparmor_profile) = (true, true);
    let default = Some(APPARMOR_DEFAULT.to_owned());
    assert_eq!(profile(&asked), default);
    asked.config.security.apparmor = Some(Profile::RuntimeDefault);
    assert_eq!(profile(&asked), default);
    asked.config.security.apparmor = Some(Profile::Unconfined);
    assert_eq!(profile(&asked), None);
    asked.config.security.apparmor = None;
    asked.sandbox.config.security.privileged = true;
    asked.config.security.privileged = true;
    assert_eq!(profile(&asked), None);
}

#[test]
fn a_default_profile_that_is_not_loaded_is_missed_only_by_who_asks_for_it() {
    let mut asked = asked();
    asked.host.apparmor = true;
    assert_eq!(asked.process().apparmor_profile(), &None);
    asked.config.security.apparmor = Some(Profile::RuntimeDefault);
    assert_eq!(asked.build().unwrap_err().kind(), Kind::FailedPrecondition);
    asked.host.apparmor = false;
    assert_eq!(asked.process().apparmor_profile(), &None);
}

#[test]
fn security_modules_are_named_only_where_they_are_on() {
    let mut asked = asked();
    asked.config.security.apparmor = Some(Profile::Localhost("mine".into()));
    assert_eq!(asked.build().unwrap_err().kind(), Kind::FailedPrecondition);
    asked.host.apparmor = true;
    assert_eq!(asked.process().apparmor_profile().as_deref(), Some("mine"));
    asked.config.security.selinux = Some(crate::model::sandbox::SelinuxContext {
        level: "s0:c1,c2".into(),
        ..Default::default()
    });
    assert_eq!(asked.process().selinux_label(), &None);
    asked.host.selinux = true;
    let label = "system_u:system_r:container_t:s0:c1,c2";
    assert_eq!(asked.process().selinux_label().as_deref(), Some(label));
    let files = "system_u:object_r:container_file_t:s0:c1,c2";
    assert_eq!(asked.linux().mount_label().as_deref(), Some(files));
    asked.config.security.selinux = None;
    asked.sandbox.selinux_level = Some("s0:c7,c9".into());
    let label = "system_u:system_r:container_t:s0:c7,c9";
    assert_eq!(asked.process().selinux_label().as_deref(), Some(label));
    asked.config.security.privileged = true;
    asked.sandbox.config.security.privileged = true;
    let label = "system_u:system_r:spc_t:s0";
    assert_eq!(asked.process().selinux_label().as_deref(), Some(label));
}
