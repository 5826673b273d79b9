//! The seccomp section of a container's configuration.
//!
//! The runtime's own profile is data: `default.json`, in the form that profiles have everywhere, so
//! that one reader serves it and the profiles of a node. It allows what programs need, grouped by
//! what it is for, and some calls only with the capability that the kernel asks for anyway. It is
//! resolved for a container's capabilities here and compiled in `task`.

mod profile;

use super::SpecInputs;
use super::capabilities::Granted;
use crate::error::{Context, Error, Kind, Result};
use crate::model::sandbox::Profile;
use oci_spec::runtime::LinuxSeccomp;
pub use profile::{SeccompProfile, Situation};
use std::sync::OnceLock;

const DEFAULT: &str = include_str!("default.json");

/// What the container's profile comes to; `None` where it is not confined. A privileged container
/// never is.
///
/// # Errors
/// `FailedPrecondition` where the kernel has no seccomp and a profile was asked for: a container
/// must not run with less protection than it was promised. `InvalidArgument` for a profile that
/// cannot be read.
pub fn section(inputs: &SpecInputs<'_>, granted: &Granted) -> Result<Option<LinuxSeccomp>> {
    let security = &inputs.config.security;
    if security.privileged || security.seccomp == Profile::Unconfined {
        return Ok(None);
    }
    if !inputs.host.seccomp {
        return Err(Error::precondition(
            "security_context.seccomp: this kernel has no seccomp; ask for Unconfined",
        ));
    }
    let situation = Situation {
        capabilities: &granted.names(),
        architecture: &inputs.host.architecture,
        kernel: &inputs.host.kernel,
    };
    match &security.seccomp {
        Profile::Localhost(path) => local(inputs, path)?.resolve(&situation).map(Some),
        Profile::RuntimeDefault | Profile::Unconfined => {
            runtime_default().resolve(&situation).map(Some)
        }
    }
}

fn local(inputs: &SpecInputs<'_>, path: &str) -> Result<SeccompProfile> {
    let text = inputs
        .seccomp_profile
        .ok_or_else(|| Error::internal(format!("seccomp profile {path} was not read")))?;
    serde_json::from_str(text).context(Kind::InvalidArgument, || format!("seccomp profile {path}"))
}

/// The profile of a container that asks for the runtime's default.
#[must_use]
pub fn runtime_default() -> &'static SeccompProfile {
    static PARSED: OnceLock<SeccompProfile> = OnceLock::new();
    PARSED.get_or_init(|| {
        serde_json::from_str(DEFAULT).expect("default.json is part of this build and tested")
    })
}
