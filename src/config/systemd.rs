//! Whether this host's cgroups are systemd's to make, found out at the start.
//!
//! Invariant: a host counts as one of systemd's only where the process 1 that this process sees is that
//! systemd, in its own place of the tree: in a container that has the host's `/run` it is not.

use crate::model::host::CgroupDriver;
use std::fs;
use std::path::Path;

/// systemd's own sign that it has booted a host (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// Where process 1 puts itself.
const INIT: &str = "/init.scope";

/// Which driver the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverChoice {
    /// systemd's where it can be had, else `cgroupfs`.
    Auto,
    /// This one.
    Fixed(CgroupDriver),
}

/// The cgroup that systemd takes for the root of this host: mostly empty.
///
/// # Errors
/// Why systemd makes no scopes here.
pub fn root(socket: &Path) -> Result<String, String> {
    if !Path::new(BOOTED).is_dir() {
        return Err(format!(
            "{BOOTED} is not there: systemd has not booted this host"
        ));
    }
    if !socket.exists() {
        return Err(format!("systemd does not listen at {}", socket.display()));
    }
    let first = "/proc/1/cgroup";
    let text = fs::read_to_string(first).map_err(|e| format!("read {first}: {e}"))?;
    root_of(&text)
        .ok_or_else(|| format!("{first} does not say that systemd is process 1: {text:?}"))
}

/// From the text of `/proc/1/cgroup`: the hierarchy is version 2's, or systemd's own of version 1.
fn root_of(first: &str) -> Option<String> {
    let own = |line: &str| {
        line.strip_prefix("0::")
            .or_else(|| Some(line.split_once(":name=systemd:")?.1))
            .and_then(|path| path.strip_suffix(INIT))
            // Above this process's own root there is nothing to be made.
            .filter(|path| !path.split('/').any(|part| part == ".."))
            .map(str::to_owned)
    };
    first.lines().find_map(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_root_is_where_process_1_is() {
        assert_eq!(root_of("0::/init.scope\n").unwrap(), "");
        assert_eq!(root_of("0::/../../init.scope\n"), None);
        assert_eq!(root_of("0::/machine/a/init.scope\n").unwrap(), "/machine/a");
        let v1 = "12:memory:/\n1:name=systemd:/init.scope\n0::/init.scope\n";
        assert_eq!(root_of(v1).unwrap(), "");
        assert_eq!(
            root_of("3:cpu:/\n1:name=systemd:/init.scope\n").unwrap(),
            ""
        );
    }

    #[test]
    fn another_process_1_is_not_systemd() {
        for other in ["0::/\n", "", "4:memory:/init.scope\n", "0::/docker/a\n"] {
            assert_eq!(root_of(other), None, "{other:?}");
        }
    }

    #[test]
    fn why_not_is_told() {
        let why = root(Path::new("/nonexistent/private")).unwrap_err();
        assert!(
            why.contains(BOOTED) || why.contains("/nonexistent"),
            "{why}"
        );
    }
}
