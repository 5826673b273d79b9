//! What the cases ask for: configurations of pods and containers, as a kubelet would fill them in.

use crate::image;
use corten_proto::runtime::v1::*;
use std::path::Path;

/// Below this the pods' cgroups are.
const CGROUP_PARENT: &str = "/corten-test";
/// Ends on SIGTERM with 0; until then runs one `tail`, and never a `sleep`.
const IDLE: &str = "trap 'exit 0' TERM; tail -f /dev/null & wait";

/// A sandbox that exists, and what it was made from.
pub struct Pod {
    /// Its id.
    pub id: String,
    /// Its configuration.
    pub config: PodSandboxConfig,
}

/// A pod of this name; its containers have PID namespaces of their own, as pods have by default.
pub fn pod(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "tests".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: format!("/var/log/pods/{name}"),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: CGROUP_PARENT.to_owned(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(own_pid()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn own_pid() -> NamespaceOption {
    NamespaceOption {
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    }
}

/// The pod in other namespaces.
pub fn in_namespaces(mut pod: PodSandboxConfig, options: NamespaceOption) -> PodSandboxConfig {
    let linux = pod.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = Some(options);
    pod
}

/// The pod with a TCP port of the node.
pub fn with_host_port(mut pod: PodSandboxConfig, port: i32, host_port: i32) -> PodSandboxConfig {
    pod.port_mappings.push(PortMapping {
        container_port: port,
        host_port,
        ..Default::default()
    });
    pod
}

/// The pod with a label.
pub fn with_label(mut pod: PodSandboxConfig, key: &str, value: &str) -> PodSandboxConfig {
    pod.labels.insert(key.to_owned(), value.to_owned());
    pod
}

/// A container that runs a script in busybox's shell.
pub fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: image::NAME.to_owned(),
            ..Default::default()
        }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(own_pid()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container that waits for its end.
pub fn idle(name: &str) -> ContainerConfig {
    shell(name, IDLE)
}

/// The container in the namespaces of its pod.
pub fn joined(mut container: ContainerConfig, pod: &PodSandboxConfig) -> ContainerConfig {
    let options = pod
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let options = options.and_then(|context| context.namespace_options.clone());
    let linux = container.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = options;
    container
}

/// The container with this directory of the node at `/gate`.
pub fn gated(mut container: ContainerConfig, gate: &Path) -> ContainerConfig {
    container.mounts.push(Mount {
        container_path: "/gate".to_owned(),
        host_path: gate.to_str().unwrap().to_owned(),
        ..Default::default()
    });
    container
}

/// The container with so much memory and no swap, in bytes.
pub fn with_memory(mut container: ContainerConfig, limit: i64) -> ContainerConfig {
    container.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: limit,
        memory_swap_limit_in_bytes: limit,
        ..Default::default()
    });
    container
}

/// Where a container's log is.
pub fn log_path(pod: &PodSandboxConfig, container: &str) -> String {
    format!("{}/{container}.log", pod.log_directory)
}
