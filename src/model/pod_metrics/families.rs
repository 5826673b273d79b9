//! The families, by what they measure.
//!
//! The list is the protocol's contract: the kubelet asks for it once, when it starts, and drops samples of
//! any other name.

use super::Behaviour::{Counter, Gauge};
use super::Family;

/// Every family there is.
pub static ALL: [&Family; 56] = [
    &CPU_USAGE,
    &CPU_USER,
    &CPU_SYSTEM,
    &CFS_PERIODS,
    &CFS_THROTTLED_PERIODS,
    &CFS_THROTTLED_SECONDS,
    &MEMORY_USAGE,
    &MEMORY_WORKING_SET,
    &MEMORY_RSS,
    &MEMORY_CACHE,
    &MEMORY_MAPPED_FILE,
    &MEMORY_KERNEL,
    &MEMORY_SWAP,
    &MEMORY_MAX_USAGE,
    &MEMORY_FAILCNT,
    &MEMORY_FAILURES,
    &OOM_EVENTS,
    &HUGETLB_USAGE,
    &HUGETLB_MAX_USAGE,
    &FS_USAGE,
    &FS_LIMIT,
    &FS_INODES_TOTAL,
    &FS_INODES_FREE,
    &FS_READS_BYTES,
    &FS_READS,
    &FS_WRITES_BYTES,
    &FS_WRITES,
    &BLKIO_USAGE,
    &PRESSURE_CPU_STALLED,
    &PRESSURE_CPU_WAITING,
    &PRESSURE_IO_STALLED,
    &PRESSURE_IO_WAITING,
    &PRESSURE_MEMORY_STALLED,
    &PRESSURE_MEMORY_WAITING,
    &PROCESSES,
    &THREADS,
    &THREADS_MAX,
    &FILE_DESCRIPTORS,
    &SOCKETS,
    &ULIMITS_SOFT,
    &SPEC_CPU_PERIOD,
    &SPEC_CPU_QUOTA,
    &SPEC_CPU_SHARES,
    &SPEC_MEMORY_LIMIT,
    &SPEC_MEMORY_RESERVATION,
    &SPEC_MEMORY_SWAP_LIMIT,
    &START_TIME,
    &LAST_SEEN,
    &NETWORK_RECEIVE_BYTES,
    &NETWORK_RECEIVE_PACKETS,
    &NETWORK_RECEIVE_DROPPED,
    &NETWORK_RECEIVE_ERRORS,
    &NETWORK_TRANSMIT_BYTES,
    &NETWORK_TRANSMIT_PACKETS,
    &NETWORK_TRANSMIT_DROPPED,
    &NETWORK_TRANSMIT_ERRORS,
];

macro_rules! families {
    ($($family:ident: $name:literal, $behaviour:ident, [$($key:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $family: Family = Family {
                name: $name,
                help: $help,
                behaviour: $behaviour,
                own_keys: &[$($key),*],
            };
        )*
    };
}

families! {
    CPU_USAGE: "container_cpu_usage_seconds_total", Counter, ["cpu"],
        "CPU time used on all CPUs together, in whole seconds.";
    CPU_USER: "container_cpu_user_seconds_total", Counter, [],
        "CPU time used outside of the kernel, in whole seconds.";
    CPU_SYSTEM: "container_cpu_system_seconds_total", Counter, [],
        "CPU time used inside the kernel, in whole seconds.";
    CFS_PERIODS: "container_cpu_cfs_periods_total", Counter, [],
        "Periods of the CPU quota in which something ran.";
    CFS_THROTTLED_PERIODS: "container_cpu_cfs_throttled_periods_total", Counter, [],
        "Periods in which the CPU quota was used up before their end.";
    CFS_THROTTLED_SECONDS: "container_cpu_cfs_throttled_seconds_total", Counter, [],
        "Time for which a used-up CPU quota held tasks back, in whole seconds.";
    MEMORY_USAGE: "container_memory_usage_bytes", Gauge, [],
        "All memory that is charged now, with the page cache, in bytes.";
    MEMORY_WORKING_SET: "container_memory_working_set_bytes", Gauge, [],
        "Memory that cannot be taken back at once (usage without inactive file pages), in bytes.";
    MEMORY_RSS: "container_memory_rss", Gauge, [],
        "Anonymous memory, in bytes.";
    MEMORY_CACHE: "container_memory_cache", Gauge, [],
        "Page cache, in bytes.";
    MEMORY_MAPPED_FILE: "container_memory_mapped_file", Gauge, [],
        "Files that are mapped, in bytes.";
    MEMORY_KERNEL: "container_memory_kernel_usage", Gauge, [],
        "Memory that the kernel itself holds for its tasks, in bytes.";
    MEMORY_SWAP: "container_memory_swap", Gauge, [],
        "Swap that is used, in bytes; 0 also where the kernel does not account for it.";
    MEMORY_MAX_USAGE: "container_memory_max_usage_bytes", Gauge, [],
        "The most memory that was ever charged at once, in bytes.";
    MEMORY_FAILCNT: "container_memory_failcnt", Counter, [],
        "How often the memory limit was hit.";
    MEMORY_FAILURES: "container_memory_failures_total", Counter, ["failure_type", "scope"],
        "Page faults (pgfault), and those that read from a disk (pgmajfault), of its own tasks (container) or with those of cgroups below (hierarchy).";
    OOM_EVENTS: "container_oom_events_total", Counter, [],
        "Processes that were killed for memory.";
    HUGETLB_USAGE: "container_hugetlb_usage_bytes", Gauge, ["pagesize"],
        "Huge pages that are used, in bytes.";
    HUGETLB_MAX_USAGE: "container_hugetlb_max_usage_bytes", Gauge, ["pagesize"],
        "The most of huge pages that were ever used at once, in bytes (cgroup v1 alone tells it).";
    FS_USAGE: "container_fs_usage_bytes", Gauge, ["device"],
        "What the writable layer takes, in bytes.";
    FS_LIMIT: "container_fs_limit_bytes", Gauge, ["device"],
        "The size of the file system that the writable layer is on, in bytes.";
    FS_INODES_TOTAL: "container_fs_inodes_total", Gauge, ["device"],
        "The inodes of the file system that the writable layer is on; 0 where it has no fixed number.";
    FS_INODES_FREE: "container_fs_inodes_free", Gauge, ["device"],
        "The free inodes of the file system that the writable layer is on.";
    FS_READS_BYTES: "container_fs_reads_bytes_total", Counter, ["device"],
        "Bytes read from a block device.";
    FS_READS: "container_fs_reads_total", Counter, ["device"],
        "Reads from a block device.";
    FS_WRITES_BYTES: "container_fs_writes_bytes_total", Counter, ["device"],
        "Bytes written to a block device.";
    FS_WRITES: "container_fs_writes_total", Counter, ["device"],
        "Writes to a block device.";
    BLKIO_USAGE: "container_blkio_device_usage_total", Counter, ["device", "major", "minor", "operation"],
        "Bytes moved to and from a block device, by operation.";
    PRESSURE_CPU_STALLED: "container_pressure_cpu_stalled_seconds_total", Counter, [],
        "Time in which no task could go on for want of a CPU, in whole seconds.";
    PRESSURE_CPU_WAITING: "container_pressure_cpu_waiting_seconds_total", Counter, [],
        "Time in which at least one task waited for a CPU, in whole seconds.";
    PRESSURE_IO_STALLED: "container_pressure_io_stalled_seconds_total", Counter, [],
        "Time in which no task could go on for waiting on a disk, in whole seconds.";
    PRESSURE_IO_WAITING: "container_pressure_io_waiting_seconds_total", Counter, [],
        "Time in which at least one task waited for a disk, in whole seconds.";
    PRESSURE_MEMORY_STALLED: "container_pressure_memory_stalled_seconds_total", Counter, [],
        "Time in which no task could go on for want of memory, in whole seconds.";
    PRESSURE_MEMORY_WAITING: "container_pressure_memory_waiting_seconds_total", Counter, [],
        "Time in which at least one task waited for memory, in whole seconds.";
    PROCESSES: "container_processes", Gauge, [],
        "Processes.";
    THREADS: "container_threads", Gauge, [],
        "Threads, those of single-threaded processes too.";
    THREADS_MAX: "container_threads_max", Gauge, [],
        "How many threads there may be; 0: as many as the node takes.";
    FILE_DESCRIPTORS: "container_file_descriptors", Gauge, [],
        "Open file descriptors of all processes.";
    SOCKETS: "container_sockets", Gauge, [],
        "Open file descriptors that are sockets.";
    ULIMITS_SOFT: "container_ulimits_soft", Gauge, ["ulimit"],
        "Soft limits of the container's first process.";
    SPEC_CPU_PERIOD: "container_spec_cpu_period", Gauge, [],
        "The period of the CPU quota, in microseconds.";
    SPEC_CPU_QUOTA: "container_spec_cpu_quota", Gauge, [],
        "CPU time that may be used in a period, in microseconds; absent without a limit.";
    SPEC_CPU_SHARES: "container_spec_cpu_shares", Gauge, [],
        "The weight against others where CPUs are short, on the scale of cgroup v1.";
    SPEC_MEMORY_LIMIT: "container_spec_memory_limit_bytes", Gauge, [],
        "The memory limit in bytes; 0: none.";
    SPEC_MEMORY_RESERVATION: "container_spec_memory_reservation_limit_bytes", Gauge, [],
        "Memory that is kept for it where memory is short, in bytes; 0: none.";
    SPEC_MEMORY_SWAP_LIMIT: "container_spec_memory_swap_limit_bytes", Gauge, [],
        "The limit of memory and swap together, in bytes; 0: none.";
    START_TIME: "container_start_time_seconds", Gauge, [],
        "When it was started, in seconds since the epoch.";
    LAST_SEEN: "container_last_seen", Gauge, [],
        "When it was last looked at, in seconds since the epoch.";
    NETWORK_RECEIVE_BYTES: "container_network_receive_bytes_total", Counter, ["interface"],
        "Bytes received.";
    NETWORK_RECEIVE_PACKETS: "container_network_receive_packets_total", Counter, ["interface"],
        "Packets received.";
    NETWORK_RECEIVE_DROPPED: "container_network_receive_packets_dropped_total", Counter, ["interface"],
        "Packets dropped that were to be received.";
    NETWORK_RECEIVE_ERRORS: "container_network_receive_errors_total", Counter, ["interface"],
        "Packets not received for an error.";
    NETWORK_TRANSMIT_BYTES: "container_network_transmit_bytes_total", Counter, ["interface"],
        "Bytes sent.";
    NETWORK_TRANSMIT_PACKETS: "container_network_transmit_packets_total", Counter, ["interface"],
        "Packets sent.";
    NETWORK_TRANSMIT_DROPPED: "container_network_transmit_packets_dropped_total", Counter, ["interface"],
        "Packets dropped that were to be sent.";
    NETWORK_TRANSMIT_ERRORS: "container_network_transmit_errors_total", Counter, ["interface"],
        "Packets not sent for an error.";
}
