//! All that the kernel accounts for a cgroup, beyond what stats need of it ([`CgroupUsage`]).
//!
//! Invariant: what cannot be known is `None`, never 0.

use super::stats::CgroupUsage;

/// One reading of a cgroup, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupDetail {
    /// What stats tell as well.
    pub usage: CgroupUsage,
    /// CPU time by kind.
    pub cpu: CpuTimes,
    /// Parts of its memory.
    pub memory: MemoryParts,
    /// Huge pages, by size; empty where they are not accounted.
    pub huge_pages: Vec<HugePages>,
    /// What went to and from block devices.
    pub devices: Vec<DeviceTraffic>,
    /// Limits in force.
    pub limits: CgroupLimits,
    /// Its own processes, not those of cgroups below it, as the node sees them.
    pub processes: Vec<i32>,
}

/// CPU time by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Nanoseconds outside of the kernel.
    pub user_ns: u64,
    /// Nanoseconds inside the kernel.
    pub system_ns: u64,
    /// What its quota did; `None` where none can be set.
    pub throttling: Option<Throttling>,
}

/// What a CPU quota did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which something ran.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds for which tasks were held back.
    pub throttled_ns: u64,
}

/// Parts of a cgroup's memory, in bytes unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryParts {
    /// Page cache.
    pub cache: u64,
    /// Mapped files.
    pub mapped_file: u64,
    /// What the kernel holds for its tasks.
    pub kernel: u64,
    /// The most that was charged at once; `None` on version 2 before Linux 5.19.
    pub max_usage: Option<u64>,
    /// How often the limit was hit, a number.
    pub limit_hits: u64,
    /// Page faults of its own tasks, a number.
    pub own_page_faults: u64,
    /// Those that read from a disk, a number.
    pub own_major_page_faults: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HugePages {
    /// The size, as the kernel names it: `2MB`.
    pub size: String,
    /// Bytes that are used.
    pub usage: u64,
    /// The most bytes that were used at once; `None` on version 2.
    pub max_usage: Option<u64>,
}

/// What went to and from a block device, by operation: `Read`, `Write`, and what else the kernel names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceTraffic {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Bytes.
    pub bytes: Vec<(String, u64)>,
    /// Operations.
    pub operations: Vec<(String, u64)>,
}

/// Limits in force. `None`: there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// CFS quota in microseconds.
    pub cpu_quota: Option<u64>,
    /// Weight on the scale of version 1 (1024 is the kernel's default).
    pub cpu_shares: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes that are kept for it where memory is short.
    pub memory_reservation: Option<u64>,
    /// Bytes of memory and swap together.
    pub memory_and_swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What the processes of a container hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Processes.
    pub processes: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Those of them that are sockets.
    pub sockets: u64,
    /// The first process's soft limit of open files; `None` without one.
    pub max_open_files: Option<u64>,
}
