//! Mounts and devices of a container.

use super::check::{absolute, below, known, refuse};
use super::security::id_mapping;
use crate::error::{Error, Result};
use crate::model::container::{Device, Mount, MountedImage, Propagation};
use crate::model::sandbox::IdMapping;
use corten_proto::runtime::v1;

/// What a bind mount can have beside `readonly`.
const OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

impl TryFrom<v1::Mount> for Mount {
    type Error = Error;

    fn try_from(asked: v1::Mount) -> Result<Self> {
        let mount = Self {
            container_path: absolute(asked.container_path, "config.mounts.container_path")?,
            host_path: asked.host_path,
            readonly: asked.readonly,
            recursive_readonly: asked.recursive_read_only,
            selinux_relabel: asked.selinux_relabel,
            propagation: propagation(asked.propagation)?,
            uid_mappings: mappings(&asked.uid_mappings, "config.mounts.uidMappings")?,
            gid_mappings: mappings(&asked.gid_mappings, "config.mounts.gidMappings")?,
            image: asked.image.and_then(image),
            image_sub_path: below(asked.image_sub_path, "config.mounts.image_sub_path")?,
            options: options(asked.mount_options)?,
        };
        let mount = with_one_source(mount)?;
        recursive_readonly_is_possible(&mount)?;
        Ok(mount)
    }
}

/// Exactly one of a host path and an image is mounted, and an image only to be read.
fn with_one_source(mut mount: Mount) -> Result<Mount> {
    let field = "config.mounts.host_path";
    let path = std::mem::take(&mut mount.host_path);
    match (&mount.image, path.is_empty()) {
        (Some(_), false) => return Err(refuse(field, "excludes image")),
        (Some(_), true) if !mount.readonly => {
            return Err(refuse(
                "config.mounts.readonly",
                "must be set for an image: nobody writes to one",
            ));
        }
        (Some(_), true) => {}
        (None, _) => mount.host_path = absolute(path, field)?,
    }
    Ok(mount)
}

/// Read-only below it as well: only for what is read-only itself, and what gets no later mounts.
fn recursive_readonly_is_possible(mount: &Mount) -> Result<()> {
    let field = "config.mounts.recursive_read_only";
    match (mount.recursive_readonly, mount.readonly, mount.propagation) {
        (true, false, _) => Err(refuse(field, "needs readonly")),
        (true, true, Propagation::HostToContainer | Propagation::Bidirectional) => {
            Err(refuse(field, "needs private propagation"))
        }
        _ => Ok(()),
    }
}

fn image(spec: v1::ImageSpec) -> Option<MountedImage> {
    // A message without a name is how some callers say that there is none.
    if spec.image.is_empty() {
        return None;
    }
    Some(MountedImage {
        image: spec.image,
        user_specified_image: spec.user_specified_image,
        annotations: spec.annotations.into_iter().collect(),
        handler: spec.runtime_handler,
    })
}

fn propagation(number: i32) -> Result<Propagation> {
    Ok(match known(number, "config.mounts.propagation")? {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    })
}

fn mappings(asked: &[v1::IdMapping], field: &str) -> Result<Vec<IdMapping>> {
    asked
        .iter()
        .map(|mapping| id_mapping(mapping, field))
        .collect()
}

fn options(options: Vec<String>) -> Result<Vec<String>> {
    match options
        .iter()
        .find(|option| !OPTIONS.contains(&option.as_str()))
    {
        None => Ok(options),
        Some(other) => Err(refuse(
            "config.mounts.mount_options",
            format!("{other:?} is none of {}", OPTIONS.join(", ")),
        )),
    }
}

impl TryFrom<v1::Device> for Device {
    type Error = Error;

    fn try_from(asked: v1::Device) -> Result<Self> {
        let field = "config.devices.permissions";
        if !asked.permissions.chars().all(|c| "rwm".contains(c)) {
            return Err(refuse(
                field,
                format!("{:?} has more than r, w, m", asked.permissions),
            ));
        }
        Ok(Self {
            container_path: absolute(asked.container_path, "config.devices.container_path")?,
            host_path: absolute(asked.host_path, "config.devices.host_path")?,
            permissions: asked.permissions,
        })
    }
}
