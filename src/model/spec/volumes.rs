//! The mounts that a container asks for.

use super::mounts::bind;
use super::namespaces::id_mappings;
use super::{ResolvedMount, SpecInputs};
use crate::error::{Error, Kind, Result, Sentinel};
use crate::model::container::{Mount, Propagation};
use crate::model::host::HostFacts;
use std::path::{Component, Path, PathBuf};

/// What CRI's `mount_options` may say.
const OPTIONS: [&str; 3] = ["nodev", "noexec", "nosuid"];

/// As bind mounts, in the order in which they were asked for.
pub fn all(inputs: &SpecInputs<'_>) -> Result<Vec<oci_spec::runtime::Mount>> {
    inputs
        .config
        .mounts
        .iter()
        .zip(inputs.mounts)
        .map(|(mount, resolved)| volume(mount, resolved, inputs.host))
        .collect()
}

fn volume(
    mount: &Mount,
    resolved: &ResolvedMount,
    host: &HostFacts,
) -> Result<oci_spec::runtime::Mount> {
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        return Err(Error::invalid(field(
            mount,
            "uidMappings and gidMappings come together",
        )));
    }
    let mut options = vec!["rbind", propagation(mount.propagation)];
    options.push(access(mount, host)?);
    for option in &mount.options {
        let known = OPTIONS.iter().find(|known| *known == option);
        options.push(known.ok_or_else(|| {
            Error::invalid(field(
                mount,
                &format!("mount_options: {option:?} is none of {OPTIONS:?}"),
            ))
        })?);
    }
    let mut volume = bind(destination(mount)?, resolved.host_path.clone(), &options);
    volume
        .set_uid_mappings(id_mappings(&mount.uid_mappings))
        .set_gid_mappings(id_mappings(&mount.gid_mappings));
    Ok(volume)
}

/// An image is never writable.
fn access(mount: &Mount, host: &HostFacts) -> Result<&'static str> {
    let readonly = mount.readonly || mount.image.is_some();
    if !mount.recursive_readonly {
        return Ok(if readonly { "ro" } else { "rw" });
    }
    if !readonly {
        return Err(Error::invalid(field(
            mount,
            "recursive_read_only needs readonly",
        )));
    }
    if mount.propagation != Propagation::Private {
        let why = "recursive_read_only needs private propagation";
        return Err(Error::invalid(field(mount, why)));
    }
    if !host.recursive_read_only {
        let why = "a recursive read-only mount needs Linux 5.12";
        return Err(Error::new(
            Kind::Sentinel(Sentinel::RroUnsupported),
            field(mount, why),
        ));
    }
    Ok("rro")
}

fn propagation(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    }
}

/// The propagation that the root must have so that the mounts below it can have theirs; `None`
/// where none needs it.
pub fn rootfs_propagation(mounts: &[Mount]) -> Option<String> {
    let some = |wanted| mounts.iter().any(|mount| mount.propagation == wanted);
    match (
        some(Propagation::Bidirectional),
        some(Propagation::HostToContainer),
    ) {
        (true, _) => Some("rshared".to_owned()),
        (false, true) => Some("rslave".to_owned()),
        (false, false) => None,
    }
}

/// Absolute, and without `.` and `..`.
fn destination(mount: &Mount) -> Result<PathBuf> {
    let path = Path::new(&mount.container_path);
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean == Path::new("/") || mount.container_path.contains('\0') {
        return Err(Error::invalid(field(
            mount,
            "container_path must name something below the root",
        )));
    }
    Ok(clean)
}

fn field(mount: &Mount, why: &str) -> String {
    format!("mounts[{:?}]: {why}", mount.container_path)
}
