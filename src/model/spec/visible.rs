//! What of the kernel's files a container does not see, or cannot write.

use crate::model::container::ContainerSecurity;

/// Not seen where nothing else was asked for: what tells of other containers or of the hardware,
/// or reaches around namespaces. The kubelet's own default is such a list; others send none.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Not written where nothing else was asked for: settings of the whole node.
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The paths that the container does not see.
pub fn masked(security: &ContainerSecurity) -> Vec<String> {
    asked_or(security, &security.masked_paths, &MASKED)
}

/// The paths that the container cannot write.
pub fn readonly(security: &ContainerSecurity) -> Vec<String> {
    asked_or(security, &security.readonly_paths, &READONLY)
}

/// A privileged container sees all. An empty list is no wish to see all where no user namespace
/// stands between the container and the node.
fn asked_or(security: &ContainerSecurity, asked: &[String], default: &[&str]) -> Vec<String> {
    if security.privileged {
        return Vec::new();
    }
    if asked.is_empty() && security.namespaces.user.is_none() {
        return default.iter().map(ToString::to_string).collect();
    }
    asked.to_vec()
}
