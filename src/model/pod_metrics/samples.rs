//! Samples from readings.

use super::families as f;
use super::{Family, Sample};
use crate::model::cgroup_detail::{
    CgroupDetail, CgroupLimits, CpuTimes, DeviceTraffic, HugePages, MemoryParts, ProcessUsage,
};
use crate::model::stats::{InterfaceUsage, Memory, NetworkUsage, Pressure, Stall};

const SECOND: u64 = 1_000_000_000;

/// What a container's writable layer takes, and the file system that it is on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskPart {
    /// The device's file, `/dev/vda1`, or what else is mounted.
    pub device: String,
    /// The size of the file system in bytes.
    pub limit_bytes: u64,
    /// Its inodes; 0: no fixed number.
    pub inodes_total: u64,
    /// Those that are free.
    pub inodes_free: u64,
    /// Bytes of the layer; `None`: not measured yet.
    pub used_bytes: Option<u64>,
    /// When the layer was measured, in nanoseconds since the epoch.
    pub measured_at: i64,
}

/// What is told of both a pod and a container: its cgroup, how long it lives, and when this is. Devices
/// have the names that `device` gives them.
fn of_cgroup(detail: &CgroupDetail, device: &dyn Fn(u32, u32) -> String) -> Vec<Sample> {
    let usage = &detail.usage;
    let mut told = cpu(usage.cpu_ns, &detail.cpu, &detail.limits);
    let swap = usage.swap.as_ref().map_or(0, |swap| swap.usage);
    told.extend(memory(&usage.memory, &detail.memory, swap));
    told.push(plain(&f::OOM_EVENTS, usage.oom_kills));
    told.extend(usage.pids.map(|threads| plain(&f::THREADS, threads)));
    told.push(plain(&f::THREADS_MAX, detail.limits.pids.unwrap_or(0)));
    told.extend(detail.huge_pages.iter().flat_map(huge_pages));
    let devices = detail.devices.iter();
    told.extend(
        devices.flat_map(|traffic| self::traffic(traffic, &device(traffic.major, traffic.minor))),
    );
    told.extend(pressure(&usage.pressure));
    told.extend(limits(&detail.limits));
    told
}

/// Of a container: its cgroup, its processes, and its times in nanoseconds since the epoch.
#[must_use]
pub fn of_container(
    detail: &CgroupDetail,
    processes: &ProcessUsage,
    times: (i64, i64),
    device: &dyn Fn(u32, u32) -> String,
) -> Vec<Sample> {
    let mut told = of_pod(detail, processes, times, device);
    let files = processes.max_open_files;
    told.extend(files.map(|limit| sample(&f::ULIMITS_SOFT, &["max_open_files"], limit)));
    told
}

/// Of a pod: the cgroup above its containers', and what the processes of all of them hold.
#[must_use]
pub fn of_pod(
    detail: &CgroupDetail,
    processes: &ProcessUsage,
    (started_at, now): (i64, i64),
    device: &dyn Fn(u32, u32) -> String,
) -> Vec<Sample> {
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0) / SECOND;
    let mut told = of_cgroup(detail, device);
    told.extend([
        plain(&f::PROCESSES, processes.processes),
        plain(&f::FILE_DESCRIPTORS, processes.descriptors),
        plain(&f::SOCKETS, processes.sockets),
        plain(&f::START_TIME, seconds(started_at)),
        plain(&f::LAST_SEEN, seconds(now)),
    ]);
    told
}

/// Of a container's writable layer. Its size is as old as its last measure.
#[must_use]
pub fn of_disk(disk: &DiskPart) -> Vec<Sample> {
    let device = [disk.device.as_str()];
    let mut told = vec![
        sample(&f::FS_LIMIT, &device, disk.limit_bytes),
        sample(&f::FS_INODES_TOTAL, &device, disk.inodes_total),
        sample(&f::FS_INODES_FREE, &device, disk.inodes_free),
    ];
    told.extend(disk.used_bytes.map(|bytes| Sample {
        timestamp: disk.measured_at,
        ..sample(&f::FS_USAGE, &device, bytes)
    }));
    told
}

/// A pod may make as many interfaces as it likes, and all pods' figures go to the kubelet in one message.
const MOST_INTERFACES: usize = 32;

/// Of a pod's interfaces.
#[must_use]
pub fn of_network(network: &NetworkUsage) -> Vec<Sample> {
    let all = std::iter::once(&network.default).chain(&network.others);
    all.take(MOST_INTERFACES).flat_map(interface).collect()
}

fn interface(of: &InterfaceUsage) -> [Sample; 8] {
    let told = |family, value| sample(family, &[&of.name], value);
    [
        told(&f::NETWORK_RECEIVE_BYTES, of.rx_bytes),
        told(&f::NETWORK_RECEIVE_PACKETS, of.rx_packets),
        told(&f::NETWORK_RECEIVE_DROPPED, of.rx_dropped),
        told(&f::NETWORK_RECEIVE_ERRORS, of.rx_errors),
        told(&f::NETWORK_TRANSMIT_BYTES, of.tx_bytes),
        told(&f::NETWORK_TRANSMIT_PACKETS, of.tx_packets),
        told(&f::NETWORK_TRANSMIT_DROPPED, of.tx_dropped),
        told(&f::NETWORK_TRANSMIT_ERRORS, of.tx_errors),
    ]
}

fn sample(family: &'static Family, own: &[&str], value: u64) -> Sample {
    Sample {
        family,
        own: own.iter().map(|&value| value.to_owned()).collect(),
        value,
        timestamp: 0,
    }
}

fn plain(family: &'static Family, value: u64) -> Sample {
    sample(family, &[], value)
}

/// cAdvisor tells of throttling only where there is a quota.
fn cpu(used_ns: u64, times: &CpuTimes, limits: &CgroupLimits) -> Vec<Sample> {
    let mut told = vec![
        sample(&f::CPU_USAGE, &["total"], used_ns / SECOND),
        plain(&f::CPU_USER, times.user_ns / SECOND),
        plain(&f::CPU_SYSTEM, times.system_ns / SECOND),
    ];
    if let (Some(throttling), Some(_)) = (&times.throttling, limits.cpu_quota) {
        told.extend([
            plain(&f::CFS_PERIODS, throttling.periods),
            plain(&f::CFS_THROTTLED_PERIODS, throttling.throttled_periods),
            plain(&f::CFS_THROTTLED_SECONDS, throttling.throttled_ns / SECOND),
        ]);
    }
    told
}

fn memory(memory: &Memory, parts: &MemoryParts, swap: u64) -> Vec<Sample> {
    let failures = |kind, scope, value| sample(&f::MEMORY_FAILURES, &[kind, scope], value);
    let mut told = vec![
        plain(&f::MEMORY_USAGE, memory.usage),
        plain(&f::MEMORY_WORKING_SET, memory.working_set),
        plain(&f::MEMORY_RSS, memory.rss),
        plain(&f::MEMORY_CACHE, parts.cache),
        plain(&f::MEMORY_MAPPED_FILE, parts.mapped_file),
        plain(&f::MEMORY_KERNEL, parts.kernel),
        plain(&f::MEMORY_SWAP, swap),
        plain(&f::MEMORY_FAILCNT, parts.limit_hits),
        failures("pgfault", "container", parts.own_page_faults),
        failures("pgfault", "hierarchy", memory.page_faults),
        failures("pgmajfault", "container", parts.own_major_page_faults),
        failures("pgmajfault", "hierarchy", memory.major_page_faults),
    ];
    told.extend(
        parts
            .max_usage
            .map(|most| plain(&f::MEMORY_MAX_USAGE, most)),
    );
    told
}

fn huge_pages(pages: &HugePages) -> Vec<Sample> {
    let size = [pages.size.as_str()];
    let mut told = vec![sample(&f::HUGETLB_USAGE, &size, pages.usage)];
    let most = pages.max_usage;
    told.extend(most.map(|most| sample(&f::HUGETLB_MAX_USAGE, &size, most)));
    told
}

fn traffic(traffic: &DeviceTraffic, device: &str) -> Vec<Sample> {
    let (major, minor) = (traffic.major.to_string(), traffic.minor.to_string());
    let moved = traffic.bytes.iter().map(|(operation, bytes)| {
        sample(
            &f::BLKIO_USAGE,
            &[device, &major, &minor, operation],
            *bytes,
        )
    });
    let mut told: Vec<Sample> = moved.collect();
    let figures = [
        (&traffic.bytes, "Read", &f::FS_READS_BYTES),
        (&traffic.bytes, "Write", &f::FS_WRITES_BYTES),
        (&traffic.operations, "Read", &f::FS_READS),
        (&traffic.operations, "Write", &f::FS_WRITES),
    ];
    for (figures, wanted, family) in figures {
        let found = figures.iter().find(|(operation, _)| operation == wanted);
        told.extend(found.map(|(_, value)| sample(family, &[device], *value)));
    }
    told
}

fn pressure(pressure: &Pressure) -> Vec<Sample> {
    let told = |stall: &Option<Stall>, stalled, waiting| {
        let stall = stall.as_ref();
        stall.map(|stall| {
            [
                plain(stalled, stall.full.total_ns / SECOND),
                plain(waiting, stall.some.total_ns / SECOND),
            ]
        })
    };
    [
        told(
            &pressure.cpu,
            &f::PRESSURE_CPU_STALLED,
            &f::PRESSURE_CPU_WAITING,
        ),
        told(
            &pressure.io,
            &f::PRESSURE_IO_STALLED,
            &f::PRESSURE_IO_WAITING,
        ),
        told(
            &pressure.memory,
            &f::PRESSURE_MEMORY_STALLED,
            &f::PRESSURE_MEMORY_WAITING,
        ),
    ]
    .into_iter()
    .flatten()
    .flatten()
    .collect()
}

fn limits(limits: &CgroupLimits) -> Vec<Sample> {
    let memory = [
        (&f::SPEC_MEMORY_LIMIT, limits.memory),
        (&f::SPEC_MEMORY_RESERVATION, limits.memory_reservation),
        (&f::SPEC_MEMORY_SWAP_LIMIT, limits.memory_and_swap),
    ];
    let memory = memory.map(|(family, limit)| plain(family, limit.unwrap_or(0)));
    let cpu = [
        (&f::SPEC_CPU_PERIOD, limits.cpu_period),
        (&f::SPEC_CPU_QUOTA, limits.cpu_quota),
        (&f::SPEC_CPU_SHARES, limits.cpu_shares),
    ];
    let cpu = cpu
        .into_iter()
        .filter_map(|(family, limit)| Some(plain(family, limit?)));
    memory.into_iter().chain(cpu).collect()
}

#[cfg(test)]
mod tests;
