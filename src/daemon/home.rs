//! The daemon's place among the cgroups.
//!
//! ```text
//! as a unit of systemd   .../corten.service/daemon        this process
//!                        .../corten.service/shims         shims, which outlive it
//!                        .../corten.service/holders/POD   a holder, until its pod's scope takes it
//! otherwise              /corten/shims, /corten/holders   the same; this process stays where it was started
//! ```
//!
//! Invariant: no shim is in a pod's cgroup, and no limit is on either leaf.

use crate::cgroup::Cgroups;
use crate::error::{Context, Kind, Result};
use std::path::{Path, PathBuf};

const ELSEWHERE: &str = "/corten";

/// Makes the place, goes there, and tells the cgroup of shims.
///
/// # Errors
/// Where the kernel refuses.
pub fn settle(cgroups: &dyn Cgroups) -> Result<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unit = unit(&own);
    let failed = || "make the daemon's cgroups".to_owned();
    if let Some(unit) = unit {
        let daemon = format!("{unit}/daemon");
        cgroups.ensure(&daemon).context(Kind::Internal, failed)?;
        cgroups.enter(&daemon).context(Kind::Internal, failed)?;
    }
    let shims = format!("{}/shims", unit.unwrap_or(ELSEWHERE));
    cgroups.ensure(&shims).context(Kind::Internal, failed)?;
    Ok(PathBuf::from(shims))
}

/// Where the cradles of pods' holders are: beside the cgroup of shims.
#[must_use]
pub fn cradles(shims: &Path) -> String {
    shims.with_file_name("holders").display().to_string()
}

/// The cgroup of the systemd unit that this process is the service of, from the text of
/// `/proc/self/cgroup`. A shell that a person started a daemon in is in a scope, not in a service.
fn unit(own: &str) -> Option<&str> {
    let v2 = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let unit = v2.strip_suffix("/daemon").unwrap_or(v2);
    unit.ends_with("/corten.service").then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_born_beside_the_shims() {
        let shims = Path::new("/system.slice/corten.service/shims");
        assert_eq!(cradles(shims), "/system.slice/corten.service/holders");
    }

    #[test]
    fn only_a_unit_of_its_own_is_a_home() {
        let unit_of = |text: &str| unit(text).map(str::to_owned);
        let home = Some("/system.slice/corten.service".to_owned());
        assert_eq!(unit_of("0::/system.slice/corten.service\n"), home);
        assert_eq!(
            unit_of("4:memory:/x\n0::/system.slice/corten.service/daemon\n"),
            home
        );
        assert_eq!(
            unit_of("0::/user.slice/user-0.slice/session-1.scope\n"),
            None
        );
        assert_eq!(unit_of("0::/system.slice/ssh.service\n"), None);
        assert_eq!(unit_of("0::/\n"), None);
        assert_eq!(unit_of("1:name=systemd:/\n"), None);
    }
}
