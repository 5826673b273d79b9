//! What containers and pods use. A figure that could not be read is absent, not 0.

use super::map;
use crate::model::stats::{
    ContainerStats, CpuUsage, FsUsage, InterfaceUsage, Memory, NetworkUsage, PodStats, Pressure,
    Stall, StallTime, Swap,
};
use corten_proto::runtime::v1;

impl From<&ContainerStats> for v1::ContainerStats {
    fn from(stats: &ContainerStats) -> Self {
        let attributes = v1::ContainerAttributes {
            id: stats.id.to_string(),
            metadata: Some((&stats.metadata).into()),
            labels: map(&stats.labels),
            annotations: map(&stats.annotations),
        };
        Self {
            attributes: Some(attributes),
            cpu: Some(cpu(&stats.cpu, &stats.pressure)),
            memory: Some(memory(
                &stats.memory,
                stats.memory_timestamp,
                stats.pressure.memory.as_ref(),
            )),
            writable_layer: stats.writable_layer.as_ref().map(Into::into),
            swap: stats
                .swap
                .as_ref()
                .map(|used| swap(used, stats.memory_timestamp)),
            io: io(&stats.pressure, stats.memory_timestamp),
        }
    }
}

impl From<&PodStats> for v1::PodSandboxStats {
    fn from(stats: &PodStats) -> Self {
        let attributes = v1::PodSandboxAttributes {
            id: stats.id.to_string(),
            metadata: Some((&stats.metadata).into()),
            labels: map(&stats.labels),
            annotations: map(&stats.annotations),
        };
        Self {
            attributes: Some(attributes),
            linux: Some(stats.into()),
            windows: None,
        }
    }
}

impl From<&PodStats> for v1::LinuxPodSandboxStats {
    fn from(stats: &PodStats) -> Self {
        let process = |count| v1::ProcessUsage {
            timestamp: stats.cpu.timestamp,
            process_count: value(count),
        };
        Self {
            cpu: Some(cpu(&stats.cpu, &stats.pressure)),
            memory: Some(memory(
                &stats.memory,
                stats.memory_timestamp,
                stats.pressure.memory.as_ref(),
            )),
            network: stats.network.as_ref().map(Into::into),
            process: stats.process_count.map(process),
            containers: stats.containers.iter().map(Into::into).collect(),
            io: io(&stats.pressure, stats.memory_timestamp),
        }
    }
}

fn cpu(cpu: &CpuUsage, pressure: &Pressure) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: cpu.timestamp,
        usage_core_nano_seconds: value(cpu.usage_core_ns),
        usage_nano_cores: cpu.usage_nano_cores.and_then(value),
        psi: pressure.cpu.as_ref().map(Into::into),
    }
}

/// Where the kernel tells nothing of waits there is nothing to say of a disk.
fn io(pressure: &Pressure, timestamp: i64) -> Option<v1::IoUsage> {
    let psi = pressure.io.as_ref()?.into();
    Some(v1::IoUsage {
        timestamp,
        psi: Some(psi),
    })
}

impl From<&Stall> for v1::PsiStats {
    fn from(stall: &Stall) -> Self {
        Self {
            full: Some((&stall.full).into()),
            some: Some((&stall.some).into()),
        }
    }
}

impl From<&StallTime> for v1::PsiData {
    fn from(time: &StallTime) -> Self {
        let [avg10, avg60, avg300] = time.averages.map(percent);
        Self {
            total: time.total_ns,
            avg10,
            avg60,
            avg300,
        }
    }
}

fn percent(hundredths: u64) -> f64 {
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

impl From<&FsUsage> for v1::FilesystemUsage {
    fn from(usage: &FsUsage) -> Self {
        Self {
            timestamp: usage.timestamp,
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: usage.mountpoint.display().to_string(),
            }),
            used_bytes: value(usage.used_bytes),
            inodes_used: value(usage.inodes_used),
        }
    }
}

impl From<&NetworkUsage> for v1::NetworkUsage {
    fn from(usage: &NetworkUsage) -> Self {
        Self {
            timestamp: usage.timestamp,
            default_interface: Some((&usage.default).into()),
            interfaces: usage.others.iter().map(Into::into).collect(),
        }
    }
}

impl From<&InterfaceUsage> for v1::NetworkInterfaceUsage {
    fn from(usage: &InterfaceUsage) -> Self {
        Self {
            name: usage.name.clone(),
            rx_bytes: value(usage.rx_bytes),
            rx_errors: value(usage.rx_errors),
            tx_bytes: value(usage.tx_bytes),
            tx_errors: value(usage.tx_errors),
        }
    }
}

fn memory(memory: &Memory, timestamp: i64, stall: Option<&Stall>) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: value(memory.working_set),
        available_bytes: memory.available.and_then(value),
        usage_bytes: value(memory.usage),
        rss_bytes: value(memory.rss),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: stall.map(Into::into),
    }
}

fn swap(swap: &Swap, timestamp: i64) -> v1::SwapUsage {
    v1::SwapUsage {
        timestamp,
        swap_available_bytes: swap.available.and_then(value),
        swap_usage_bytes: value(swap.usage),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the field of every caller is optional"
)]
pub(super) fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}
