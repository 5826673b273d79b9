//! The names under which security modules know a container.

use super::SpecInputs;
use crate::error::{Error, Result};
use crate::model::container::ContainerSecurity;
use crate::model::host::HostFacts;
use crate::model::sandbox::{Profile, SelinuxContext};

/// The name of the AppArmor profile that Corten brings: `task/apparmor/corten-default` holds it.
pub const APPARMOR_DEFAULT: &str = "corten-default";

/// The AppArmor profile's name. Who names none gets the default where it is loaded, unless
/// privileged; one that was asked for is never left out silently where AppArmor is on.
pub fn apparmor(security: &ContainerSecurity, host: &HostFacts) -> Result<Option<String>> {
    match &security.apparmor {
        Some(Profile::Localhost(name)) if host.apparmor => Ok(Some(name.clone())),
        Some(Profile::Localhost(name)) => Err(Error::precondition(format!(
            "security_context.apparmor {name:?}: AppArmor is off on this node"
        ))),
        Some(Profile::Unconfined) => Ok(None),
        _ if security.privileged || !host.apparmor => Ok(None),
        Some(Profile::RuntimeDefault) | None if host.apparmor_profile => {
            Ok(Some(APPARMOR_DEFAULT.to_owned()))
        }
        Some(Profile::RuntimeDefault) => Err(Error::precondition(format!(
            "security_context.apparmor: the profile {APPARMOR_DEFAULT} is not loaded: install the \
             package apparmor and restart Corten, whose log says why"
        ))),
        None => Ok(None),
    }
}

/// The label of the container's processes.
pub fn selinux_process(inputs: &SpecInputs<'_>) -> Option<String> {
    let kind = match inputs.config.security.privileged {
        true => "spc_t",
        false => "container_t",
    };
    let label = context(inputs)?;
    Some(format!(
        "{}:{}:{}:{}",
        or(&label.user, "system_u"),
        or(&label.role, "system_r"),
        or(&label.kind, kind),
        or(&label.level, level(inputs)),
    ))
}

/// The label of the container's files.
pub fn selinux_mount(inputs: &SpecInputs<'_>) -> Option<String> {
    let label = context(inputs)?;
    Some(format!(
        "{}:object_r:container_file_t:{}",
        or(&label.user, "system_u"),
        or(&label.level, level(inputs)),
    ))
}

/// The container's, or the pod's, or one that says nothing; where SELinux is on.
fn context(inputs: &SpecInputs<'_>) -> Option<SelinuxContext> {
    let own = inputs.config.security.selinux.as_ref();
    let asked = own.or(inputs.sandbox.config.security.selinux.as_ref());
    let asked = asked.cloned().unwrap_or_default();
    inputs.host.selinux.then_some(asked)
}

/// The pod's categories; a privileged container is above them.
fn level<'a>(inputs: &SpecInputs<'a>) -> &'a str {
    match &inputs.sandbox.selinux_level {
        Some(level) if !inputs.config.security.privileged => level,
        _ => "s0",
    }
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    match text.is_empty() {
        true => default,
        false => text,
    }
}
