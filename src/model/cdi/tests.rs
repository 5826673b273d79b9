use super::*;
use crate::model::container::ContainerConfig;
use oci_spec::runtime::{LinuxDeviceType, Process, Spec, User};
use serde_json::json;

fn vendor(edits: &serde_json::Value) -> VendorSpec {
    let text = json!({
        "cdiVersion": "1.1.0",
        "kind": "vendor.com/gpu",
        "annotations": { "note": "for people" },
        "devices": [{ "name": "0", "containerEdits": edits }],
    });
    serde_json::from_value(text).unwrap()
}

fn edits(edits: serde_json::Value) -> ContainerEdits {
    serde_json::from_value(edits).unwrap()
}

/// A configuration of a container whose user is 1000:100.
fn spec() -> Spec {
    let mut user = User::default();
    user.set_uid(1000).set_gid(100);
    let mut process = Process::default();
    process
        .set_user(user)
        .set_env(Some(vec!["PATH=/bin".into(), "GPU=none".into()]));
    let mut spec = Spec::default();
    spec.set_process(Some(process)).set_mounts(Some(Vec::new()));
    spec.set_linux(Some(oci_spec::runtime::Linux::default()));
    spec
}

#[test]
fn names_are_asked_for_by_field_and_annotation_and_each_once() {
    let mut config = ContainerConfig {
        cdi_devices: vec!["vendor.com/gpu=0".into()],
        ..ContainerConfig::default()
    };
    for (key, value) in [
        ("cdi.k8s.io/plugin_a", "vendor.com/gpu=1,vendor.com/gpu=0"),
        ("other.io/a", "no name"),
    ] {
        config.annotations.insert(key.into(), value.into());
    }
    let names: Vec<_> = asked(&config)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["vendor.com/gpu=0", "vendor.com/gpu=1"]);
    for wrong in [
        "gpu", "gpu=0", "v/c=", "/c=a", "v/=a", "1v/c=a", "v/c.d=a", "v/c=a b", "v/c=-a", "v-/c=a",
    ] {
        config.cdi_devices = vec![wrong.into()];
        let error = asked(&config).unwrap_err();
        assert!(error.chain().contains(wrong), "{error:?}");
    }
}

#[test]
fn what_a_file_cannot_say_is_told() {
    let good = vendor(&json!({ "env": ["A=1"] }));
    assert_eq!(good.check(), Ok(()));
    let changed = |change: fn(&mut VendorSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        spec.check().unwrap_err()
    };
    assert_eq!(
        changed(|s| s.cdi_version = "9.0.0".into()),
        Flaw::Version("9.0.0".into())
    );
    assert_eq!(changed(|s| s.kind = "gpu".into()), Flaw::Kind("gpu".into()));
    assert_eq!(changed(|s| s.devices.clear()), Flaw::NoDevices);
    assert_eq!(
        changed(|s| s.devices[0].name = "a b".into()),
        Flaw::Name("a b".into())
    );
    assert_eq!(
        changed(|s| s.devices.push(s.devices[0].clone())),
        Flaw::Twice("0".into())
    );
    assert_eq!(vendor(&json!({})).check(), Err(Flaw::NoEdits("0".into())));
    for (wrong, word) in [
        (json!({ "env": ["A"] }), "NAME=VALUE"),
        (json!({ "deviceNodes": [{ "path": "dev/a" }] }), "absolute"),
        (
            json!({ "deviceNodes": [{ "path": "/dev/a", "type": "x" }] }),
            "none of",
        ),
        (
            json!({ "deviceNodes": [{ "path": "/dev/a", "permissions": "rx" }] }),
            "some of",
        ),
        (
            json!({ "mounts": [{ "hostPath": "/a", "containerPath": "b" }] }),
            "absolute",
        ),
        (
            json!({ "hooks": [{ "hookName": "later", "path": "/a" }] }),
            "hookName",
        ),
        (
            json!({ "hooks": [{ "hookName": "poststop", "path": "a" }] }),
            "absolute",
        ),
    ] {
        let flaw = vendor(&wrong).check().unwrap_err().to_string();
        assert!(flaw.contains(word), "{flaw}");
    }
    let unknown = serde_json::from_value::<ContainerEdits>(json!({ "envs": [] }));
    assert!(unknown.unwrap_err().to_string().contains("envs"));
}

#[test]
fn variables_groups_and_a_class_are_the_containers() {
    let mut spec = spec();
    let edits = edits(json!({
        "env": ["GPU=0", "MORE=1"],
        "additionalGids": [0, 44, 44],
        "intelRdt": { "closID": "gold", "schemata": ["L3:0=f"], "enableCMT": true },
        "netDevices": [{ "hostInterfaceName": "eth7", "name": "fast0" }],
    }));
    apply(&edits, &mut spec);
    let process = spec.process().as_ref().unwrap();
    assert_eq!(
        process.env().as_ref().unwrap(),
        &["PATH=/bin", "GPU=0", "MORE=1"]
    );
    assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[44]);
    let linux = spec.linux().as_ref().unwrap();
    let class = linux.intel_rdt().as_ref().unwrap();
    assert_eq!(
        (class.clos_id().as_deref(), class.enable_monitoring()),
        (Some("gold"), &Some(true))
    );
    let links = linux.net_devices().as_ref().unwrap();
    assert_eq!(links["eth7"].name().as_deref(), Some("fast0"));
}

#[test]
fn a_node_is_the_users_and_may_be_used_as_the_file_says() {
    let mut spec = spec();
    let edits = edits(json!({ "deviceNodes": [
        { "path": "/dev/a", "type": "c", "major": 195, "minor": 3, "permissions": "rw", "gid": 5, "fileMode": 432 },
        { "path": "/dev/pipe", "type": "p" },
    ]}));
    apply(&edits, &mut spec);
    apply(&edits, &mut spec);
    let linux = spec.linux().as_ref().unwrap();
    let devices = linux.devices().as_ref().unwrap();
    assert_eq!(devices.len(), 2, "the second takes the place of the first");
    let node = &devices[0];
    assert_eq!(
        (node.typ(), node.major(), node.minor()),
        (LinuxDeviceType::C, 195, 3)
    );
    assert_eq!(
        (node.uid(), node.gid(), node.file_mode()),
        (Some(1000), Some(5), Some(0o660))
    );
    let rules = linux
        .resources()
        .as_ref()
        .unwrap()
        .devices()
        .clone()
        .unwrap();
    let rule = &rules[0];
    assert_eq!(
        (rule.allow(), rule.major(), rule.access().as_deref()),
        (true, Some(195), Some("rw"))
    );
    assert!(
        rules
            .iter()
            .all(|rule| rule.typ() == Some(LinuxDeviceType::C)),
        "a pipe needs none"
    );
}

#[test]
fn a_mount_hides_nothing_that_lies_below_it() {
    let mut spec = spec();
    for path in ["/usr/lib/deep", "/usr/lib"] {
        let mount = json!({ "mounts": [{ "hostPath": "/h", "containerPath": path, "options": ["ro", "bind"] }] });
        apply(&edits(mount.clone()), &mut spec);
        apply(&edits(mount), &mut spec);
    }
    let mounts = spec.mounts().as_ref().unwrap();
    let paths: Vec<_> = mounts
        .iter()
        .map(|mount| mount.destination().to_str().unwrap())
        .collect();
    assert_eq!(paths, ["/usr/lib", "/usr/lib/deep"]);
    assert_eq!(mounts[0].typ().as_deref(), Some("bind"));
}

#[test]
fn hooks_are_added_to_those_of_their_moment() {
    let mut spec = spec();
    let moments = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    for moment in moments {
        let hook = json!({ "hookName": moment, "path": "/bin/true", "args": ["true", moment], "timeout": 3 });
        let edits = edits(json!({ "hooks": [hook.clone(), hook] }));
        apply(&edits, &mut spec);
    }
    let hooks = serde_json::to_value(spec.hooks()).unwrap();
    for moment in moments {
        assert_eq!(hooks[moment].as_array().unwrap().len(), 2, "{moment}");
        assert_eq!(hooks[moment][1]["args"][1], moment);
    }
}
