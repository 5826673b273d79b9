//! Annotations: what other runtimes look for, and what the specification has no field for.

use super::SpecInputs;
use crate::model::sandbox::GroupsPolicy;
use std::collections::HashMap;

/// `Merge` or `Strict`: whether the groups of the image's `/etc/group` count.
pub const GROUPS_POLICY: &str = "corten.dev/supplemental-groups-policy";

/// Those of the field (gVisor and Kata read them), and the shim's own.
pub fn all(inputs: &SpecInputs<'_>) -> HashMap<String, String> {
    let pod = &inputs.sandbox.config.metadata;
    let policy = match inputs.config.security.groups_policy {
        GroupsPolicy::Merge => "Merge",
        GroupsPolicy::Strict => "Strict",
    };
    [
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.sandbox-id", inputs.sandbox.id.as_str()),
        ("io.kubernetes.cri.sandbox-name", &pod.name),
        ("io.kubernetes.cri.sandbox-namespace", &pod.namespace),
        ("io.kubernetes.cri.sandbox-uid", &pod.uid),
        (
            "io.kubernetes.cri.container-name",
            &inputs.config.metadata.name,
        ),
        (
            "io.kubernetes.cri.image-name",
            &inputs.config.user_specified_image,
        ),
        (GROUPS_POLICY, policy),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}
