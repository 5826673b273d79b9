//! Pod sandboxes.

use super::map;
use crate::model::sandbox::{
    IdMapping, NamespaceMode, NamespaceOptions, PodMetadata, Sandbox, SandboxState, UserNamespace,
};
use corten_proto::runtime::v1;
use std::net::IpAddr;

impl From<&Sandbox> for v1::PodSandbox {
    fn from(sandbox: &Sandbox) -> Self {
        Self {
            id: sandbox.id.to_string(),
            metadata: Some((&sandbox.config.metadata).into()),
            state: state(sandbox.state).into(),
            created_at: sandbox.created_at,
            labels: map(&sandbox.config.labels),
            annotations: map(&sandbox.config.annotations),
            runtime_handler: sandbox.handler.clone(),
        }
    }
}

impl From<&Sandbox> for v1::PodSandboxStatus {
    fn from(sandbox: &Sandbox) -> Self {
        let namespaces = v1::Namespace {
            options: Some((&sandbox.config.security.namespaces).into()),
        };
        Self {
            id: sandbox.id.to_string(),
            metadata: Some((&sandbox.config.metadata).into()),
            state: state(sandbox.state).into(),
            created_at: sandbox.created_at,
            network: Some(network(&sandbox.ips)),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(namespaces),
            }),
            labels: map(&sandbox.config.labels),
            annotations: map(&sandbox.config.annotations),
            runtime_handler: sandbox.handler.clone(),
        }
    }
}

impl From<&PodMetadata> for v1::PodSandboxMetadata {
    fn from(pod: &PodMetadata) -> Self {
        Self {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            attempt: pod.attempt,
        }
    }
}

impl From<&NamespaceOptions> for v1::NamespaceOption {
    fn from(options: &NamespaceOptions) -> Self {
        Self {
            network: mode(options.network).into(),
            pid: mode(options.pid).into(),
            ipc: mode(options.ipc).into(),
            target_id: options.target_id.clone(),
            userns_options: options.user.as_ref().map(Into::into),
        }
    }
}

impl From<&UserNamespace> for v1::UserNamespace {
    fn from(user: &UserNamespace) -> Self {
        Self {
            mode: v1::NamespaceMode::Pod.into(),
            uids: user.uids.iter().map(Into::into).collect(),
            gids: user.gids.iter().map(Into::into).collect(),
        }
    }
}

impl From<&IdMapping> for v1::IdMapping {
    fn from(mapping: &IdMapping) -> Self {
        Self {
            host_id: mapping.host_id,
            container_id: mapping.container_id,
            length: mapping.length,
        }
    }
}

/// What is being made is no place for containers yet, so it is not ready.
fn state(state: SandboxState) -> v1::PodSandboxState {
    match state {
        SandboxState::Ready => v1::PodSandboxState::SandboxReady,
        SandboxState::Creating | SandboxState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

fn network(ips: &[IpAddr]) -> v1::PodSandboxNetworkStatus {
    let mut ips = ips.iter().map(ToString::to_string);
    v1::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
    }
}

fn mode(mode: NamespaceMode) -> v1::NamespaceMode {
    match mode {
        NamespaceMode::Pod => v1::NamespaceMode::Pod,
        NamespaceMode::Container => v1::NamespaceMode::Container,
        NamespaceMode::Node => v1::NamespaceMode::Node,
        NamespaceMode::Target => v1::NamespaceMode::Target,
    }
}
