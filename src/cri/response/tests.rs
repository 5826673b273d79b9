//! What comes in goes out as it was, and records are told as the kubelet reads them.

use crate::id::{ContainerId, Digest, ImageId, SandboxId};
use crate::model::container::{
    Container, ContainerConfig, ContainerMetadata, ContainerState, Exit,
};
use crate::model::resources::Resources;
use crate::model::sandbox::{Namespaces, Release, Sandbox, SandboxConfig, SandboxState};
use crate::model::stats::{ContainerStats, CpuUsage, Memory, Pressure, Stall};
use corten_proto::runtime::v1;

fn mount() -> v1::Mount {
    v1::Mount {
        container_path: "/data".into(),
        host_path: "/srv".into(),
        readonly: true,
        recursive_read_only: true,
        mount_options: vec!["noexec".into()],
        ..Default::default()
    }
}

fn asked() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "app".into(),
            attempt: 3,
        }),
        image: Some(v1::ImageSpec {
            image: "sha256:0123".into(),
            user_specified_image: "busybox:1".into(),
            ..Default::default()
        }),
        mounts: vec![
            mount(),
            v1::Mount {
                container_path: "/shared".into(),
                host_path: "/srv".into(),
                propagation: v1::MountPropagation::PropagationBidirectional.into(),
                ..Default::default()
            },
        ],
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..Default::default()
    }
}

fn container(state: ContainerState) -> Container {
    let config: ContainerConfig = asked().try_into().unwrap();
    Container {
        id: ContainerId::random(),
        sandbox_id: SandboxId::random(),
        config,
        image_id: ImageId(Digest::from_hex(&"a".repeat(64)).unwrap()),
        image_volumes: [].into(),
        healthcheck: None,
        state,
        created_at: 1,
        started_at: 2,
        boot_id: String::new(),
        pid: 7,
        start_time: 8,
        stop_signal: 15,
        cgroup: String::new(),
        log_path: Some("/var/log/pods/x/app/3.log".into()),
        image_ref: String::new(),
        user: None,
        resources: Resources {
            memory_limit: 5,
            ..Resources::default()
        },
    }
}

fn sandbox(config: v1::PodSandboxConfig, ips: &[&str]) -> Sandbox {
    let config: SandboxConfig = config.try_into().unwrap();
    Sandbox {
        id: SandboxId::random(),
        config,
        handler: String::new(),
        state: SandboxState::Ready,
        created_at: 1,
        boot_id: String::new(),
        namespaces: Namespaces::default(),
        network: None,
        release: Release::default(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        scope: None,
        selinux_level: None,
    }
}

#[test]
fn a_status_echoes_what_was_asked_for() {
    let status = v1::ContainerStatus::from(&container(ContainerState::Running));
    assert_eq!(status.mounts, asked().mounts);
    assert_eq!(status.metadata, asked().metadata);
    assert_eq!(status.labels, asked().labels);
    assert_eq!(status.log_path, "/var/log/pods/x/app/3.log");
    assert_eq!(status.stop_signal(), v1::Signal::Sigterm);
    let limits = status.resources.unwrap().linux.unwrap();
    assert_eq!(limits.memory_limit_in_bytes, 5);
}

#[test]
fn an_image_that_is_seen_is_told_with_what_it_was_found_as() {
    let mut seeing = container(ContainerState::Running);
    let mut asked = asked();
    asked.mounts[1] = v1::Mount {
        container_path: "/vol".into(),
        image: Some(v1::ImageSpec {
            image: "data:1".into(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            ..Default::default()
        }),
        image_sub_path: "x".into(),
        readonly: true,
        ..Default::default()
    };
    seeing.config = asked.clone().try_into().unwrap();
    let id = ImageId(Digest::from_hex(&"b".repeat(64)).unwrap());
    seeing.image_volumes = [(1, id.clone())].into();
    let status = v1::ContainerStatus::from(&seeing);
    assert_eq!(status.mounts[0], asked.mounts[0]);
    let image = asked.mounts[1].image.as_mut().unwrap();
    image.image_ref = id.to_string();
    assert_eq!(status.mounts[1], asked.mounts[1]);
}

#[test]
fn waits_are_told_where_the_kernel_tells_them() {
    let text = "some avg10=12.50 avg60=0.00 avg300=0.01 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n";
    let mut stats = stats();
    let told = v1::ContainerStats::from(&stats);
    assert_eq!((told.io, told.cpu.unwrap().psi), (None, None));
    stats.pressure.io = Stall::parse(text);
    stats.pressure.memory = Stall::parse(text);
    let told = v1::ContainerStats::from(&stats);
    let io = told.io.unwrap();
    let some = io.psi.as_ref().unwrap().some.unwrap();
    assert_eq!((io.timestamp, some.total), (5, 7000));
    assert_eq!([some.avg10, some.avg60, some.avg300], [12.5, 0.0, 0.01]);
    assert_eq!(told.memory.unwrap().psi, io.psi);
}

fn stats() -> ContainerStats {
    ContainerStats {
        id: ContainerId::random(),
        metadata: ContainerMetadata::default(),
        labels: [].into(),
        annotations: [].into(),
        cpu: CpuUsage::default(),
        memory_timestamp: 5,
        memory: Memory::default(),
        swap: None,
        pids: None,
        pressure: Pressure::default(),
        writable_layer: None,
    }
}

#[test]
fn an_image_has_its_name_and_one_id_everywhere() {
    let mut record = container(ContainerState::Running);
    let id = format!("sha256:{}", "a".repeat(64));
    let status = v1::ContainerStatus::from(&record);
    let listed = v1::Container::from(&record);
    assert_eq!((&status.image_id, &status.image_ref), (&id, &id));
    assert_eq!((&listed.image_id, &listed.image_ref), (&id, &id));
    assert_eq!(status.image.unwrap().image, "busybox:1");
    record.image_ref = format!("docker.io/library/busybox@{id}");
    let named = v1::ContainerStatus::from(&record);
    assert_eq!(
        (&named.image_id, &named.image_ref),
        (&id, &record.image_ref)
    );
}

#[test]
fn an_end_is_told_once_it_has_come() {
    let running = v1::ContainerStatus::from(&container(ContainerState::Running));
    assert_eq!((running.finished_at, running.reason.as_str()), (0, ""));
    let exit = Exit {
        code: 137,
        reason: "OOMKilled".into(),
        message: "limit 5".into(),
        finished_at: 9,
    };
    let ended = v1::ContainerStatus::from(&container(ContainerState::Exited(exit)));
    assert_eq!(ended.state(), v1::ContainerState::ContainerExited);
    assert_eq!((ended.exit_code, ended.finished_at), (137, 9));
    assert_eq!(
        (ended.reason.as_str(), ended.message.as_str()),
        ("OOMKilled", "limit 5")
    );
}

#[test]
fn a_pod_tells_its_addresses_and_namespaces() {
    let options = v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        pid: v1::NamespaceMode::Container.into(),
        ipc: v1::NamespaceMode::Pod.into(),
        userns_options: Some(v1::UserNamespace {
            mode: v1::NamespaceMode::Pod.into(),
            uids: vec![v1::IdMapping {
                host_id: 1000,
                container_id: 0,
                length: 10,
            }],
            gids: vec![v1::IdMapping {
                host_id: 2000,
                container_id: 0,
                length: 10,
            }],
        }),
        ..Default::default()
    };
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "1".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(options.clone()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = v1::PodSandboxStatus::from(&sandbox(config.clone(), &["10.1.0.2", "fd00::2"]));
    assert_eq!(status.metadata, config.metadata);
    let network = status.network.unwrap();
    assert_eq!(network.ip, "10.1.0.2");
    assert_eq!(
        network.additional_ips,
        [v1::PodIp {
            ip: "fd00::2".into()
        }]
    );
    assert_eq!(
        status.linux.unwrap().namespaces.unwrap().options,
        Some(options)
    );
}
