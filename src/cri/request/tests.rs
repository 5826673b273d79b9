//! Whole requests, with one field wrong at a time.

use crate::error::{Kind, Result};
use crate::model::container::{ContainerConfig, Propagation, UserSpec};
use crate::model::sandbox::{NamespaceMode, Profile, SandboxConfig};
use corten_proto::runtime::v1;

fn pod() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "4711".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        hostname: "web-0".into(),
        log_directory: "/var/log/pods/default_web_4711".into(),
        ..Default::default()
    }
}

fn container() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "app".into(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: "busybox".into(),
            ..Default::default()
        }),
        log_path: "app/0.log".into(),
        ..Default::default()
    }
}

fn mount() -> v1::Mount {
    v1::Mount {
        container_path: "/data".into(),
        host_path: "/srv/data".into(),
        ..Default::default()
    }
}

fn take_pod(pod: v1::PodSandboxConfig) -> Result<SandboxConfig> {
    pod.try_into()
}

fn take(container: v1::ContainerConfig) -> Result<ContainerConfig> {
    container.try_into()
}

/// The request is refused as wrong, and the message begins with the field.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, field: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().starts_with(field), "{error}");
}

fn with_security(security: v1::LinuxContainerSecurityContext) -> Result<ContainerConfig> {
    take(v1::ContainerConfig {
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(security),
            ..Default::default()
        }),
        ..container()
    })
}

fn with_mount(mount: v1::Mount) -> Result<ContainerConfig> {
    take(v1::ContainerConfig {
        mounts: vec![mount],
        ..container()
    })
}

#[test]
fn what_is_not_said_has_the_protocols_default() {
    let config = take_pod(pod()).unwrap();
    assert_eq!(config.metadata.attempt, 2);
    assert_eq!(config.security.namespaces.pid, NamespaceMode::Pod);
    let config = take(container()).unwrap();
    assert_eq!(config.security.namespaces.pid, NamespaceMode::Pod);
    assert_eq!(config.security.seccomp, Profile::Unconfined);
    assert_eq!(config.security.apparmor, None);
    assert_eq!(config.security.user, UserSpec::Image);
    assert_eq!(config.stop_signal, None);
}

#[test]
fn who_a_pod_is_must_be_said_in_plain_names() {
    refused(
        take_pod(v1::PodSandboxConfig {
            metadata: None,
            ..pod()
        }),
        "config.metadata: must be given",
    );
    for name in [
        "",
        "a/b",
        "a;K8S_POD_NAME=b",
        "a b",
        "a\nb",
        &"a".repeat(254),
    ] {
        let mut asked = pod();
        asked.metadata.as_mut().unwrap().name = name.into();
        refused(take_pod(asked), "config.metadata.name");
    }
}

#[test]
fn logs_stay_in_their_directory() {
    for path in ["/etc/passwd", "../0.log", "app/../../0.log", "a\0b"] {
        let asked = v1::ContainerConfig {
            log_path: path.into(),
            ..container()
        };
        refused(take(asked), "config.log_path");
    }
    for path in ["var/log", "/var/log/../../etc", "/a\0"] {
        let asked = v1::PodSandboxConfig {
            log_directory: path.into(),
            ..pod()
        };
        refused(take_pod(asked), "config.log_directory");
    }
}

#[test]
fn words_of_resolv_conf_cannot_start_a_line() {
    let dns = v1::DnsConfig {
        servers: vec!["10.0.0.1\nnameserver 6.6.6.6".into()],
        ..Default::default()
    };
    let asked = v1::PodSandboxConfig {
        dns_config: Some(dns),
        ..pod()
    };
    refused(take_pod(asked), "config.dns_config.servers");
}

#[test]
fn ports_and_their_addresses_are_real() {
    let with = |mapping: v1::PortMapping| {
        take_pod(v1::PodSandboxConfig {
            port_mappings: vec![mapping],
            ..pod()
        })
    };
    let good = v1::PortMapping {
        container_port: 80,
        host_port: 12000,
        host_ip: "::1".into(),
        ..Default::default()
    };
    assert_eq!(
        with(good.clone()).unwrap().port_mappings[0].host_port,
        12000
    );
    let wrong = |change: fn(&mut v1::PortMapping)| {
        let mut mapping = good.clone();
        change(&mut mapping);
        with(mapping)
    };
    refused(
        wrong(|m| m.host_port = 65536),
        "config.port_mappings.host_port",
    );
    refused(
        wrong(|m| m.container_port = -1),
        "config.port_mappings.container_port",
    );
    refused(
        wrong(|m| m.host_ip = "all".into()),
        "config.port_mappings.host_ip",
    );
    refused(wrong(|m| m.protocol = 7), "config.port_mappings.protocol");
}

#[test]
fn a_cgroup_parent_cannot_climb() {
    let asked = v1::PodSandboxConfig {
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/../../x".into(),
            ..Default::default()
        }),
        ..pod()
    };
    refused(take_pod(asked), "config.linux.cgroup_parent");
}

#[test]
fn mounts_come_from_one_absolute_place() {
    assert_eq!(
        with_mount(mount()).unwrap().mounts[0].propagation,
        Propagation::Private
    );
    let wrong = |change: fn(&mut v1::Mount)| {
        let mut asked = mount();
        change(&mut asked);
        with_mount(asked)
    };
    refused(
        wrong(|m| m.container_path = "data".into()),
        "config.mounts.container_path",
    );
    refused(
        wrong(|m| m.host_path = "data".into()),
        "config.mounts.host_path",
    );
    refused(wrong(|m| m.host_path.clear()), "config.mounts.host_path");
    refused(wrong(|m| m.propagation = 3), "config.mounts.propagation");
    refused(
        wrong(|m| m.mount_options = vec!["suid".into()]),
        "config.mounts.mount_options",
    );
    // The kubelet sends it for every mount of a pod that has an image volume.
    assert!(wrong(|m| m.image_sub_path = "a".into()).is_ok());
}

#[test]
fn images_are_mounted_read_only_and_from_within() {
    let image = |change: fn(&mut v1::Mount)| {
        let mut asked = v1::Mount {
            host_path: String::new(),
            readonly: true,
            image: Some(v1::ImageSpec {
                image: "data:1".into(),
                ..Default::default()
            }),
            ..mount()
        };
        change(&mut asked);
        with_mount(asked)
    };
    let name = |config: &ContainerConfig| config.mounts[0].image.as_ref().unwrap().image.clone();
    assert_eq!(name(&image(|_| {}).unwrap()), "data:1");
    refused(image(|m| m.readonly = false), "config.mounts.readonly");
    refused(
        image(|m| m.host_path = "/a".into()),
        "config.mounts.host_path",
    );
    refused(
        image(|m| m.image_sub_path = "../a".into()),
        "config.mounts.image_sub_path",
    );
}

#[test]
fn recursive_read_only_needs_read_only_and_private() {
    let rro = |readonly: bool, propagation: v1::MountPropagation| {
        with_mount(v1::Mount {
            recursive_read_only: true,
            readonly,
            propagation: propagation as i32,
            ..mount()
        })
    };
    assert!(rro(true, v1::MountPropagation::PropagationPrivate).is_ok());
    let field = "config.mounts.recursive_read_only";
    refused(rro(false, v1::MountPropagation::PropagationPrivate), field);
    refused(
        rro(true, v1::MountPropagation::PropagationHostToContainer),
        field,
    );
    refused(
        rro(true, v1::MountPropagation::PropagationBidirectional),
        field,
    );
}

#[test]
fn users_fit_the_kernel_and_a_group_needs_one() {
    let context = v1::LinuxContainerSecurityContext::default;
    let id = |value: i64| Some(v1::Int64Value { value });
    let user = with_security(v1::LinuxContainerSecurityContext {
        run_as_username: "www-data".into(),
        run_as_group: id(7),
        ..context()
    });
    assert_eq!(
        user.unwrap().security.user,
        UserSpec::Name("www-data".into())
    );
    for value in [-1, i64::from(u32::MAX), 1 << 32, i64::MAX] {
        let asked = v1::LinuxContainerSecurityContext {
            run_as_user: id(value),
            ..context()
        };
        refused(with_security(asked), "run_as_user");
    }
    let alone = v1::LinuxContainerSecurityContext {
        run_as_group: id(7),
        ..context()
    };
    refused(with_security(alone), "run_as_group");
    let both = v1::LinuxContainerSecurityContext {
        run_as_user: id(1),
        run_as_username: "a".into(),
        ..context()
    };
    refused(with_security(both), "run_as_username");
}

#[test]
fn a_user_namespace_has_one_mapping_with_id_0() {
    let mapping = v1::IdMapping {
        host_id: 1000,
        container_id: 0,
        length: 100_000,
    };
    let with = |mode: v1::NamespaceMode, uids: &[v1::IdMapping]| {
        with_security(v1::LinuxContainerSecurityContext {
            namespace_options: Some(v1::NamespaceOption {
                userns_options: Some(v1::UserNamespace {
                    mode: mode as i32,
                    uids: uids.to_vec(),
                    gids: uids.to_vec(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        })
    };
    let taken = with(v1::NamespaceMode::Pod, &[mapping]).unwrap();
    assert_eq!(
        taken.security.namespaces.user.unwrap().uids[0].host_id,
        1000
    );
    let none = with(v1::NamespaceMode::Node, &[]).unwrap();
    assert_eq!(none.security.namespaces.user, None);
    let field = "namespace_options.userns_options";
    refused(with(v1::NamespaceMode::Pod, &[mapping, mapping]), field);
    let without_0 = v1::IdMapping {
        container_id: 1,
        ..mapping
    };
    refused(with(v1::NamespaceMode::Pod, &[without_0]), field);
    let over_the_end = v1::IdMapping {
        host_id: u32::MAX,
        ..mapping
    };
    refused(with(v1::NamespaceMode::Pod, &[over_the_end]), field);
    let nodes_root = v1::IdMapping {
        host_id: 0,
        ..mapping
    };
    refused(with(v1::NamespaceMode::Pod, &[nodes_root]), field);
    refused(with(v1::NamespaceMode::Pod, &[]), field);
    refused(with(v1::NamespaceMode::Node, &[mapping]), field);
    refused(with(v1::NamespaceMode::Container, &[mapping]), field);
    refused(with(v1::NamespaceMode::Target, &[mapping]), field);
}

#[test]
fn a_user_namespace_excludes_what_the_node_owns() {
    let mapping = v1::IdMapping {
        host_id: 1000,
        container_id: 0,
        length: 100_000,
    };
    let with = |change: fn(&mut v1::NamespaceOption)| {
        let mut options = v1::NamespaceOption {
            userns_options: Some(v1::UserNamespace {
                mode: v1::NamespaceMode::Pod as i32,
                uids: vec![mapping],
                gids: vec![mapping],
            }),
            ..Default::default()
        };
        change(&mut options);
        with_security(v1::LinuxContainerSecurityContext {
            namespace_options: Some(options),
            ..Default::default()
        })
    };
    let node = v1::NamespaceMode::Node as i32;
    assert_eq!(node, 2);
    refused(with(|options| options.pid = 2), "namespace_options.pid");
    refused(with(|options| options.ipc = 2), "namespace_options.ipc");
    with(|options| options.network = 2).unwrap();
    let uneven = with(|options| {
        options.userns_options.as_mut().unwrap().gids.clear();
    });
    refused(uneven, "namespace_options.userns_options.gids");
}

#[test]
fn profiles_have_an_old_and_a_new_form() {
    let old = |path: &str| {
        #[expect(deprecated, reason = "it is the old form that is tested")]
        let asked = v1::LinuxContainerSecurityContext {
            seccomp_profile_path: path.into(),
            apparmor_profile: path.into(),
            ..Default::default()
        };
        with_security(asked).map(|config| (config.security.seccomp, config.security.apparmor))
    };
    assert_eq!(old("").unwrap(), (Profile::Unconfined, None));
    assert_eq!(
        old("runtime/default").unwrap(),
        (Profile::RuntimeDefault, Some(Profile::RuntimeDefault))
    );
    let local = |name: &str| Profile::Localhost(name.into());
    assert_eq!(
        old("localhost//a/b").unwrap(),
        (local("/a/b"), Some(local("/a/b")))
    );
    refused(old("strict"), "seccomp_profile_path");
    let new = |kind: i32, reference: &str| {
        with_security(v1::LinuxContainerSecurityContext {
            seccomp: Some(v1::SecurityProfile {
                profile_type: kind,
                localhost_ref: reference.into(),
            }),
            ..Default::default()
        })
    };
    assert_eq!(
        new(2, "/a.json").unwrap().security.seccomp,
        local("/a.json")
    );
    refused(new(2, "a.json"), "seccomp.localhost_ref");
    refused(new(3, ""), "seccomp.profile_type");
}

#[test]
fn capabilities_have_one_spelling() {
    let asked = v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: vec!["cap_net_admin".into(), "SYS_TIME".into()],
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let capabilities = with_security(asked).unwrap().security.capabilities;
    assert_eq!(capabilities.add, ["NET_ADMIN", "SYS_TIME"]);
    assert_eq!(capabilities.drop, ["ALL"]);
}

#[test]
fn variables_are_names_and_utf8() {
    let with = |key: &str, value: &[u8]| {
        take(v1::ContainerConfig {
            envs: vec![v1::KeyValue {
                key: key.into(),
                value: value.into(),
            }],
            ..container()
        })
    };
    assert_eq!(
        with("A", b"b=c").unwrap().envs,
        [("A".to_owned(), "b=c".to_owned())]
    );
    for (key, value) in [("", &b""[..]), ("A=B", b""), ("A", b"\xff"), ("A", b"a\0b")] {
        refused(with(key, value), "config.envs");
    }
}
