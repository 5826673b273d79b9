//! What this kernel and this node can, asked once at start.
//!
//! Invariant: probing changes nothing, needs no privilege and cannot fail: what cannot be found
//! out counts as absent, so that a container gets less and never more.

use crate::model::hierarchies::Hierarchies;
use crate::model::host::{CgroupMode, HostFacts};
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;
use std::fs;
use std::path::Path;

/// Asks this node.
#[must_use]
pub fn probe() -> HostFacts {
    let hierarchies = Hierarchies::parse(&text("/proc/self/mountinfo"));
    let kernel = uname().release().to_string_lossy().into_owned();
    let mount_setattr = version(&kernel) >= (5, 12);
    HostFacts {
        architecture: architecture(&uname().machine().to_string_lossy()).to_owned(),
        cgroups: hierarchies.mode(),
        controllers: controllers(&hierarchies),
        recursive_read_only: mount_setattr,
        idmapped_mounts: mount_setattr,
        // Only a container's own steps tell: the shim tries them when the daemon is built.
        user_namespaces: false,
        no_user_namespaces: "it was not tried".to_owned(),
        apparmor: text("/sys/module/apparmor/parameters/enabled").trim() == "Y",
        // Probing loads nothing: the daemon's start says so where it is.
        apparmor_profile: false,
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        swap_accounting: swap_accounting(&hierarchies),
        capability_bounds: capability_bounds(&text("/proc/self/status")),
        max_open_files: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        kernel,
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The two first numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Go's word for a machine of `uname`: how image indexes name it.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        "armv7l" | "armv6l" | "armv8l" => "arm",
        "loongarch64" => "loong64",
        other => other,
    }
}

fn controllers(hierarchies: &Hierarchies) -> Vec<String> {
    let mut all: Vec<String> = hierarchies
        .legacy
        .iter()
        .flat_map(|h| h.controllers.iter().cloned())
        .collect();
    if let Some(root) = &hierarchies.unified {
        let unified = text(root.join("cgroup.controllers"));
        all.extend(unified.split_whitespace().map(str::to_owned));
    }
    all
}

/// The root of version 2 has no `memory.swap.max`: the first cgroup below it that has the memory
/// controller tells.
fn swap_accounting(hierarchies: &Hierarchies) -> bool {
    if let Some(root) = hierarchies.legacy("memory") {
        return root.join("memory.memsw.limit_in_bytes").exists();
    }
    let Some(root) = hierarchies
        .unified
        .as_ref()
        .filter(|_| hierarchies.mode() == CgroupMode::Unified)
    else {
        return false;
    };
    fs::read_dir(root).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.path().join("memory.swap.max").exists())
    })
}

/// `CapBnd` of the text of `/proc/PID/status`.
fn capability_bounds(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-cloud"), (6, 18));
        assert_eq!(version("5.4.0-150-generic"), (5, 4));
        assert!(version("5.9.1") < (5, 12), "not as text");
        assert_eq!(version("weird"), (0, 0));
    }

    #[test]
    fn the_bounding_set_is_read_from_its_line() {
        let status = "CapEff:\t0000000000000001\nCapBnd:\t000001fffeffffff\nCapAmb:\t0\n";
        assert_eq!(capability_bounds(status), 0x1ff_feff_ffff);
        assert_eq!(capability_bounds("no such line"), 0);
    }

    #[test]
    fn this_node_is_told_as_it_is() {
        let facts = probe();
        let own = text("/proc/sys/kernel/osrelease");
        assert_eq!(facts.kernel, own.trim());
        assert!(!facts.controllers.is_empty(), "no controller was found");
        assert!(facts.max_open_files > 0);
        assert_eq!(
            facts.seccomp,
            text("/proc/self/status").contains("Seccomp:")
        );
    }
}
