//! Containers.

use super::map;
use crate::cri::request::signal;
use crate::model::container::{
    Container, ContainerConfig, ContainerMetadata, ContainerState, Exit, Mount, MountedImage,
    Propagation, ResolvedUser,
};
use corten_proto::runtime::v1;

impl From<&Container> for v1::Container {
    fn from(container: &Container) -> Self {
        let image_id = container.image_id.to_string();
        Self {
            id: container.id.to_string(),
            pod_sandbox_id: container.sandbox_id.to_string(),
            metadata: Some((&container.config.metadata).into()),
            image: Some(image(&container.config)),
            image_ref: image_ref(container),
            state: state(&container.state).into(),
            created_at: container.created_at,
            labels: map(&container.config.labels),
            annotations: map(&container.config.annotations),
            image_id,
        }
    }
}

/// Containers of earlier daemons have none on record.
fn image_ref(container: &Container) -> String {
    match container.image_ref.as_str() {
        "" => container.image_id.to_string(),
        name => name.to_owned(),
    }
}

impl From<&Container> for v1::ContainerStatus {
    fn from(container: &Container) -> Self {
        let config = &container.config;
        let image_id = container.image_id.to_string();
        let exit = exit(&container.state);
        Self {
            id: container.id.to_string(),
            metadata: Some((&config.metadata).into()),
            state: state(&container.state).into(),
            created_at: container.created_at,
            started_at: container.started_at,
            finished_at: exit.finished_at,
            exit_code: exit.code,
            image: Some(image(config)),
            image_ref: image_ref(container),
            reason: exit.reason,
            message: exit.message,
            labels: map(&config.labels),
            annotations: map(&config.annotations),
            mounts: mounts(container),
            log_path: log_path(container),
            resources: Some(v1::ContainerResources {
                linux: Some((&container.resources).into()),
                windows: None,
            }),
            image_id,
            user: container.user.as_ref().map(Into::into),
            stop_signal: signal::named(container.stop_signal).into(),
        }
    }
}

impl From<&ContainerMetadata> for v1::ContainerMetadata {
    fn from(metadata: &ContainerMetadata) -> Self {
        Self {
            name: metadata.name.clone(),
            attempt: metadata.attempt,
        }
    }
}

impl From<&Mount> for v1::Mount {
    fn from(mount: &Mount) -> Self {
        let image = |image: &MountedImage| v1::ImageSpec {
            image: image.image.clone(),
            annotations: map(&image.annotations),
            user_specified_image: image.user_specified_image.clone(),
            runtime_handler: image.handler.clone(),
            image_ref: String::new(),
        };
        Self {
            container_path: mount.container_path.clone(),
            host_path: mount.host_path.clone(),
            readonly: mount.readonly,
            selinux_relabel: mount.selinux_relabel,
            propagation: propagation(mount.propagation).into(),
            uid_mappings: mount.uid_mappings.iter().map(Into::into).collect(),
            gid_mappings: mount.gid_mappings.iter().map(Into::into).collect(),
            recursive_read_only: mount.recursive_readonly,
            image: mount.image.as_ref().map(image),
            image_sub_path: mount.image_sub_path.clone(),
            mount_options: mount.options.clone(),
        }
    }
}

impl From<&ResolvedUser> for v1::ContainerUser {
    fn from(user: &ResolvedUser) -> Self {
        Self {
            linux: Some(v1::LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: user.groups.iter().copied().map(Into::into).collect(),
            }),
        }
    }
}

/// As they were asked for; an image beside that with the id that it was found under.
fn mounts(container: &Container) -> Vec<v1::Mount> {
    let mut mounts: Vec<v1::Mount> = container.config.mounts.iter().map(Into::into).collect();
    for (place, id) in &container.image_volumes {
        let image = mounts
            .get_mut(*place)
            .and_then(|mount| mount.image.as_mut());
        if let Some(image) = image {
            image.image_ref = id.to_string();
        }
    }
    mounts
}

/// The image by the name that its user gave: after a pull the kubelet asks for it by its id, and
/// a person looks for the name.
fn image(config: &ContainerConfig) -> v1::ImageSpec {
    let user_specified_image = config.user_specified_image.clone();
    v1::ImageSpec {
        image: match user_specified_image.is_empty() {
            true => config.image.clone(),
            false => user_specified_image.clone(),
        },
        user_specified_image,
        annotations: map(&config.image_annotations),
        runtime_handler: config.image_handler.clone(),
        image_ref: String::new(),
    }
}

fn state(state: &ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Creating => v1::ContainerState::ContainerUnknown,
        ContainerState::Created => v1::ContainerState::ContainerCreated,
        ContainerState::Running => v1::ContainerState::ContainerRunning,
        ContainerState::Exited(_) => v1::ContainerState::ContainerExited,
    }
}

/// How it ended; zeros and empty texts while it has not.
fn exit(state: &ContainerState) -> Exit {
    match state {
        ContainerState::Exited(exit) => exit.clone(),
        ContainerState::Creating | ContainerState::Created | ContainerState::Running => Exit {
            code: 0,
            reason: String::new(),
            message: String::new(),
            finished_at: 0,
        },
    }
}

fn log_path(container: &Container) -> String {
    let path = container.log_path.as_ref();
    path.map_or_else(String::new, |path| path.display().to_string())
}

fn propagation(propagation: Propagation) -> v1::MountPropagation {
    match propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    }
}
