//! Which namespaces a container joins, which are its own, and which are the node's.

use super::{SpecInputs, has_own_cgroup_namespace};
use crate::error::{Error, Result};
use crate::model::sandbox::{IdMapping, NamespaceMode};
use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType,
};
use std::path::PathBuf;

/// A namespace that is not in the list is the node's.
pub fn all(inputs: &SpecInputs<'_>) -> Result<Vec<LinuxNamespace>> {
    let pins = &inputs.sandbox.namespaces;
    let joined = [
        (LinuxNamespaceType::User, &pins.user),
        (LinuxNamespaceType::Network, &pins.network),
        (LinuxNamespaceType::Ipc, &pins.ipc),
        (LinuxNamespaceType::Uts, &pins.uts),
    ];
    let mut all: Vec<LinuxNamespace> = joined
        .into_iter()
        .filter_map(|(kind, pin)| Some(namespace(kind, Some(pin.clone()?))))
        .collect();
    all.extend(pid(inputs)?);
    all.push(namespace(LinuxNamespaceType::Mount, None));
    if has_own_cgroup_namespace(inputs) {
        all.push(namespace(LinuxNamespaceType::Cgroup, None));
    }
    Ok(all)
}

fn pid(inputs: &SpecInputs<'_>) -> Result<Option<LinuxNamespace>> {
    let own = Some(namespace(LinuxNamespaceType::Pid, None));
    let join = |path: PathBuf| Some(namespace(LinuxNamespaceType::Pid, Some(path)));
    match inputs.config.security.namespaces.pid {
        NamespaceMode::Node => Ok(None),
        NamespaceMode::Container => Ok(own),
        NamespaceMode::Target => target(inputs).map(join),
        NamespaceMode::Pod => Ok(match &inputs.sandbox.namespaces.pid {
            Some(pin) => join(pin.clone()),
            // The pod has none to share: it is the node's, or each container has its own.
            None if pod_uses_the_nodes(inputs) => None,
            None => own,
        }),
    }
}

fn pod_uses_the_nodes(inputs: &SpecInputs<'_>) -> bool {
    inputs.sandbox.config.security.namespaces.pid == NamespaceMode::Node
}

fn target(inputs: &SpecInputs<'_>) -> Result<PathBuf> {
    match inputs.target_pid {
        Some(pid) if pid > 0 => Ok(format!("/proc/{pid}/ns/pid").into()),
        _ => Err(Error::precondition(format!(
            "namespace_options.target_id: container {:?} does not run",
            inputs.config.security.namespaces.target_id
        ))),
    }
}

/// What the ids of the pod's own user namespace are on the node; nothing where it has none.
pub fn id_mappings(mappings: &[IdMapping]) -> Option<Vec<LinuxIdMapping>> {
    let oci = |mapping: &IdMapping| {
        LinuxIdMappingBuilder::default()
            .container_id(mapping.container_id)
            .host_id(mapping.host_id)
            .size(mapping.length)
            .build()
            .expect("a mapping is three numbers, and all are given")
    };
    (!mappings.is_empty()).then(|| mappings.iter().map(oci).collect())
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}
