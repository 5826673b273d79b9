use super::*;
use crate::bundle::parse;
use process::RLIMITS;

fn facts() -> HostFacts {
    HostFacts {
        powers: Powers {
            bounding: u64::MAX,
            may_raise_limits: true,
            hard_limits: [u64::MAX; RLIMITS.len()],
        },
    }
}

const MINIMAL: &str = r#"{"process":{"args":["x"]},"linux":{"namespaces":[{"type":"mount"}]}}"#;

fn linux(more: &str) -> String {
    format!(
        r#"{{"process":{{"args":["x"]}},"hostname":"pod","linux":{{"namespaces":[{{"type":"mount"}},{{"type":"uts"}},{{"type":"network","path":"/x"}}],{more}}}}}"#
    )
}

fn index(steps: &[Step<'_>], wanted: impl Fn(&Step<'_>) -> bool) -> usize {
    steps.iter().position(wanted).expect("the step is planned")
}

#[test]
fn the_order_is_mounts_devices_protections_root() {
    let text = r#"{"process":{"args":["x"],"terminal":true},"root":{"readonly":true},
        "mounts":[{"destination":"/dev","type":"tmpfs","source":"tmpfs"},{"destination":"/data","type":"bind","source":"/srv"}],
        "linux":{"namespaces":[{"type":"mount"}],"maskedPaths":["/proc/kcore"],"readonlyPaths":["/proc/sys"]}}"#;
    let spec = parse(text).unwrap();
    let plan = build(&spec, &facts()).unwrap();
    let steps = &plan.steps;
    let order = [
        index(
            steps,
            |step| matches!(step, Step::Mount(mount) if mount.destination == "/dev"),
        ),
        index(
            steps,
            |step| matches!(step, Step::Mount(mount) if mount.destination == "/data"),
        ),
        index(steps, |step| matches!(step, Step::Device(_))),
        index(steps, |step| matches!(step, Step::Link { .. })),
        index(steps, |step| matches!(step, Step::Terminal)),
        index(steps, |step| matches!(step, Step::ReadOnly(_))),
        index(steps, |step| matches!(step, Step::Mask(_))),
        index(steps, |step| matches!(step, Step::RootReadOnly)),
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order[7], steps.len() - 1, "the root is read-only last");
}

#[test]
fn a_bound_dev_is_left_alone() {
    let text = r#"{"process":{"args":["x"]},"mounts":[{"destination":"/dev/","type":"bind","source":"/dev"}],
        "linux":{"namespaces":[{"type":"mount"}]}}"#;
    let spec = parse(text).unwrap();
    let plan = build(&spec, &facts()).unwrap();
    assert!(
        !plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::Device(_) | Step::Link { .. }))
    );
    let spec = parse(MINIMAL).unwrap();
    let plan = build(&spec, &facts()).unwrap();
    assert!(
        plan.steps
            .iter()
            .any(|step| matches!(step, Step::Device(_)))
    );
}

#[test]
fn a_host_name_needs_its_namespace() {
    let text = MINIMAL.replace("\"linux\"", "\"hostname\":\"pod\",\"linux\"");
    let spec = parse(&text).unwrap();
    assert!(build(&spec, &facts()).is_err());
}

#[test]
fn sysctls_stay_inside_the_containers_namespaces() {
    for (sysctl, fine) in [
        (r#""sysctl":{"net.core.somaxconn":"9"}"#, true),
        (
            r#""sysctl":{"net/ipv4/conf/eth0.100/forwarding":"1"}"#,
            true,
        ),
        (r#""sysctl":{"kernel.shmmax":"9"}"#, false),
        (r#""sysctl":{"kernel.core_pattern":"|/x"}"#, false),
        (r#""sysctl":{"net/../kernel/core_pattern":"|/x"}"#, false),
        (r#""sysctl":{"vm.overcommit_memory":"1"}"#, false),
    ] {
        let text = linux(sysctl);
        let spec = parse(&text).unwrap();
        assert_eq!(build(&spec, &facts()).is_ok(), fine, "{sysctl}");
    }
}

#[test]
fn an_unknown_propagation_is_refused() {
    let text = linux(r#""rootfsPropagation":"sideways""#);
    let spec = parse(&text).unwrap();
    assert!(build(&spec, &facts()).is_err());
}

/// A spec with a user namespace and these lists of ids and mounts.
fn in_user_namespace(ids: &str, mounts: &str) -> String {
    format!(
        r#"{{"process":{{"args":["x"]}},"mounts":[{mounts}],
        "linux":{{"namespaces":[{{"type":"mount"}},{{"type":"user"}}],{ids}"sysctl":{{}}}}}}"#
    )
}

const IDS: &str = r#""uidMappings":[{"containerID":0,"hostID":1000,"size":10}],
    "gidMappings":[{"containerID":0,"hostID":1000,"size":10}],"#;

#[test]
fn a_user_namespace_and_its_ids_come_together() {
    let refused = |text: &str| build(&parse(text).unwrap(), &facts()).unwrap_err();
    let without = refused(&in_user_namespace("", ""));
    assert!(without.to_string().contains("uidMappings"), "{without}");
    let alone = linux(IDS.trim_end_matches(','));
    assert!(refused(&alone).to_string().contains("user namespace"));
    let text = in_user_namespace(IDS, "");
    build(&parse(&text).unwrap(), &facts()).unwrap();
    let wide = r#"{"linux":{"uidMappings":[{"containerID":0,"hostID":4294967296,"size":1}]}}"#;
    assert!(parse(wide).unwrap_err().to_string().contains("4294967296"));
}

#[test]
fn in_a_user_namespace_no_mount_is_shared_with_the_host() {
    let mount = |word: &str| {
        let mount = format!(
            r#"{{"destination":"/d","type":"bind","source":"/s","options":["rbind","{word}"]}}"#
        );
        let text = in_user_namespace(IDS, &mount);
        build(&parse(&text).unwrap(), &facts()).map(drop)
    };
    mount("rslave").unwrap();
    let refused = mount("rshared").unwrap_err();
    assert!(refused.to_string().contains("/d"), "{refused}");
}
