//! What containers and pods use.
//!
//! Invariant: every figure says when it was read, in nanoseconds since the epoch, and what cannot
//! be known is `None`, never 0.

use super::container::ContainerMetadata;
use super::sandbox::PodMetadata;
use crate::id::{ContainerId, SandboxId};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One reading of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupUsage {
    /// CPU time in nanoseconds since the cgroup was made.
    pub cpu_ns: u64,
    /// Memory.
    pub memory: Memory,
    /// Swap; `None` where it is not accounted.
    pub swap: Option<Swap>,
    /// Processes and threads; `None` where they are not counted.
    pub pids: Option<u64>,
    /// Processes killed for memory since the cgroup was made.
    pub oom_kills: u64,
    /// How long its tasks waited.
    pub pressure: Pressure,
}

/// How long tasks of a cgroup waited for each resource; `None` where the kernel does not say:
/// without version 2 beside or alone, or with `psi=0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pressure {
    /// For a CPU.
    pub cpu: Option<Stall>,
    /// For memory to be reclaimed.
    pub memory: Option<Stall>,
    /// For a disk.
    pub io: Option<Stall>,
}

/// How long tasks waited for one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stall {
    /// While at least one task waited.
    pub some: StallTime,
    /// While all tasks that had work waited at once.
    pub full: StallTime,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StallTime {
    /// Nanoseconds since the cgroup was made.
    pub total_ns: u64,
    /// The share of the last 10, 60 and 300 seconds, in hundredths of a percent: as exact as the
    /// kernel tells it.
    pub averages: [u64; 3],
}

impl Stall {
    /// Reads the text of a pressure file (the kernel's `accounting/psi` page):
    /// `some avg10=0.12 avg60=0.00 avg300=0.00 total=1234`, and the same for `full`. Older kernels
    /// have no `full` for CPUs: a cgroup's tasks never all waited then.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let line = |kind: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
            StallTime::parse(line)
        };
        Some(Self {
            some: line("some ")?,
            full: line("full ").unwrap_or_default(),
        })
    }
}

impl StallTime {
    fn parse(line: &str) -> Option<Self> {
        let value = |key: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let hundredths = |key: &str| {
            let (whole, part) = value(key)?.split_once('.')?;
            let (whole, part): (u64, u64) = (whole.parse().ok()?, part.parse().ok()?);
            Some(whole * 100 + part)
        };
        Some(Self {
            total_ns: value("total")?.parse::<u64>().ok()?.saturating_mul(1000),
            averages: [
                hundredths("avg10")?,
                hundredths("avg60")?,
                hundredths("avg300")?,
            ],
        })
    }
}

/// Memory of a cgroup, in bytes unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it, with the page cache.
    pub usage: u64,
    /// What cannot be taken back at once: usage without inactive file pages.
    pub working_set: u64,
    /// What is left below the limit; `None` without one.
    pub available: Option<u64>,
    /// Anonymous memory.
    pub rss: u64,
    /// Page faults, a number.
    pub page_faults: u64,
    /// Page faults that read from a disk, a number.
    pub major_page_faults: u64,
}

impl Memory {
    /// Completes a reading: the working set, and what is left of `limit`.
    #[must_use]
    pub fn with_limit(mut self, inactive_file: u64, limit: Option<u64>) -> Self {
        self.working_set = self.usage.saturating_sub(inactive_file);
        self.available = limit.map(|limit| limit.saturating_sub(self.working_set));
        self
    }
}

/// Swap of a cgroup, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swap {
    /// Used.
    pub usage: u64,
    /// What is left below the limit; `None` without one.
    pub available: Option<u64>,
}

/// CPU time and the rate at which it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// When it was read.
    pub timestamp: i64,
    /// Nanoseconds of all cores since the start.
    pub usage_core_ns: u64,
    /// Nanoseconds of all cores per second between the two last readings; `None` at the first.
    pub usage_nano_cores: Option<u64>,
}

impl CpuUsage {
    /// The rate between an earlier reading and this one: `None` where no time has passed, or where
    /// the counter went back (the cgroup was made anew).
    #[must_use]
    pub fn rate_since(&self, earlier: &Self) -> Option<u64> {
        let elapsed = u128::try_from(self.timestamp - earlier.timestamp).ok()?;
        let used = u128::from(self.usage_core_ns.checked_sub(earlier.usage_core_ns)?);
        u64::try_from((used * 1_000_000_000).checked_div(elapsed)?).ok()
    }
}

/// What was read of one cgroup's CPU time before, as far as rates need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuHistory {
    base: Option<CpuUsage>,
    rate: Option<u64>,
}

impl CpuHistory {
    /// Readings nearer to each other than this, in nanoseconds, give no rate of their own: two
    /// callers one after the other would see noise.
    const NEAREST: i64 = 1_000_000_000;

    /// Takes a reading in and gives it back with the rate since the reading before.
    pub fn taken(&mut self, mut now: CpuUsage) -> CpuUsage {
        let base = self.base.get_or_insert_with(|| now.clone());
        if now.usage_core_ns < base.usage_core_ns {
            *self = Self {
                base: Some(now.clone()),
                rate: None,
            };
        } else if now.timestamp - base.timestamp >= Self::NEAREST {
            self.rate = now.rate_since(base);
            *base = now.clone();
        }
        now.usage_nano_cores = self.rate;
        now
    }
}

/// What a container's writable layer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsUsage {
    /// When it was read.
    pub timestamp: i64,
    /// The mount point of the file system that it is on.
    pub mountpoint: PathBuf,
    /// Bytes.
    pub used_bytes: u64,
    /// Inodes.
    pub inodes_used: u64,
}

/// A container and what it uses.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStats {
    /// Its name.
    pub id: ContainerId,
    /// Who it is.
    pub metadata: ContainerMetadata,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// CPU.
    pub cpu: CpuUsage,
    /// When memory and swap were read.
    pub memory_timestamp: i64,
    /// Memory.
    pub memory: Memory,
    /// Swap; `None` where it is not accounted.
    pub swap: Option<Swap>,
    /// Its processes and threads; `None` where they are not counted.
    pub pids: Option<u64>,
    /// How long its tasks waited.
    pub pressure: Pressure,
    /// Its writable layer; `None` until it was measured.
    pub writable_layer: Option<FsUsage>,
}

/// A network interface's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// Its name in the pod.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets dropped that were received.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets not sent for an error.
    pub tx_errors: u64,
    /// Packets dropped that were to be sent.
    pub tx_dropped: u64,
}

impl InterfaceUsage {
    /// A line of `/proc/PID/net/dev` (proc_pid_net(5)): a name, eight counters of what was received
    /// and eight of what was sent, which begin with bytes, packets, errors and drops.
    fn parse(line: &str) -> Option<Self> {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters
            .split_whitespace()
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        let at = |index: usize| counters.get(index).copied();
        Some(Self {
            name: name.trim().to_owned(),
            rx_bytes: at(0)?,
            rx_packets: at(1)?,
            rx_errors: at(2)?,
            rx_dropped: at(3)?,
            tx_bytes: at(8)?,
            tx_packets: at(9)?,
            tx_errors: at(10)?,
            tx_dropped: at(11)?,
        })
    }
}

/// A pod's network counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkUsage {
    /// When they were read.
    pub timestamp: i64,
    /// The interface that carries the pod's address.
    pub default: InterfaceUsage,
    /// Further interfaces.
    pub others: Vec<InterfaceUsage>,
}

impl NetworkUsage {
    /// Reads the text of `/proc/PID/net/dev` of a process in the pod. The default interface is
    /// `eth0`, as CNI is asked for, or else the first; loopback does not count.
    #[must_use]
    pub fn parse(net_dev: &str, timestamp: i64) -> Option<Self> {
        let mut others: Vec<InterfaceUsage> = net_dev
            .lines()
            .filter_map(InterfaceUsage::parse)
            .filter(|interface| interface.name != "lo")
            .collect();
        let default = others.iter().position(|i| i.name == "eth0").unwrap_or(0);
        let default = (!others.is_empty()).then(|| others.remove(default))?;
        Some(Self {
            timestamp,
            default,
            others,
        })
    }
}

/// A pod and what it uses.
#[derive(Debug, Clone, PartialEq)]
pub struct PodStats {
    /// Its name.
    pub id: SandboxId,
    /// Who it is.
    pub metadata: PodMetadata,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// CPU of all its containers.
    pub cpu: CpuUsage,
    /// When memory was read.
    pub memory_timestamp: i64,
    /// Memory of all its containers.
    pub memory: Memory,
    /// Network; `None` for a pod in the node's network, or where it could not be read.
    pub network: Option<NetworkUsage>,
    /// Processes and threads of all its containers; `None` where they are not counted.
    pub process_count: Option<u64>,
    /// How long tasks of all its containers waited.
    pub pressure: Pressure,
    /// Its running containers.
    pub containers: Vec<ContainerStats>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(timestamp: i64, usage_core_ns: u64) -> CpuUsage {
        CpuUsage {
            timestamp,
            usage_core_ns,
            usage_nano_cores: None,
        }
    }

    #[test]
    fn a_rate_is_nanoseconds_of_cpu_per_second_of_time() {
        let earlier = cpu(1_000_000_000, 500);
        assert_eq!(
            cpu(3_000_000_000, 1_000_000_500).rate_since(&earlier),
            Some(500_000_000)
        );
        assert_eq!(
            cpu(1_000_000_000, 900).rate_since(&earlier),
            None,
            "no time"
        );
        assert_eq!(cpu(2_000_000_000, 400).rate_since(&earlier), None, "reset");
        assert_eq!(
            cpu(500_000_000, 900).rate_since(&earlier),
            None,
            "backwards"
        );
    }

    #[test]
    fn a_history_gives_a_rate_from_the_second_reading_on() {
        const SECOND: i64 = 1_000_000_000;
        let mut history = CpuHistory::default();
        let mut rate = |timestamp, used| history.taken(cpu(timestamp, used)).usage_nano_cores;
        assert_eq!(rate(SECOND, 100), None, "the first");
        assert_eq!(rate(SECOND + 5, 900), None, "too near");
        assert_eq!(rate(3 * SECOND, 2_000_000_100), Some(1_000_000_000));
        assert_eq!(rate(3 * SECOND + 5, 2_000_000_200), Some(1_000_000_000));
        assert_eq!(rate(5 * SECOND, 3_000_000_100), Some(500_000_000));
        assert_eq!(rate(6 * SECOND, 7), None, "made anew");
        assert_eq!(rate(7 * SECOND, 8), Some(1));
    }

    #[test]
    fn pressure_is_read_as_exactly_as_it_is_told() {
        let text = "some avg10=79.62 avg60=33.08 avg300=0.00 total=6683\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=5\n";
        let stall = Stall::parse(text).unwrap();
        assert_eq!(stall.some.averages, [7962, 3308, 0]);
        assert_eq!(
            (stall.some.total_ns, stall.full.total_ns),
            (6_683_000, 5_000)
        );
        assert_eq!(stall.full.averages, [0, 0, 1]);
        let without_full = text.lines().next().unwrap();
        assert_eq!(
            Stall::parse(without_full).unwrap().full,
            StallTime::default()
        );
        assert_eq!(Stall::parse(""), None);
        assert_eq!(Stall::parse("some avg10=x"), None);
    }

    #[test]
    fn interfaces_are_counted_without_loopback() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  net1:      11       1    1    0    0     0          0         0       12       1    2    0    0     0       0          0
  eth0:    1000      10    3    5    0     0          0         0     2000      20    4    6    0     0       0          0
";
        let usage = NetworkUsage::parse(text, 5).unwrap();
        let eth0 = InterfaceUsage {
            name: "eth0".into(),
            rx_bytes: 1000,
            rx_packets: 10,
            rx_errors: 3,
            rx_dropped: 5,
            tx_bytes: 2000,
            tx_packets: 20,
            tx_errors: 4,
            tx_dropped: 6,
        };
        assert_eq!((usage.default, usage.timestamp), (eth0, 5));
        assert_eq!(usage.others.len(), 1);
        let loopback: String = text
            .lines()
            .take(3)
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(NetworkUsage::parse(&loopback, 5), None);
    }

    #[test]
    fn the_working_set_leaves_out_what_can_be_dropped() {
        let memory = Memory {
            usage: 1000,
            ..Memory::default()
        };
        let limited = memory.clone().with_limit(300, Some(2000));
        assert_eq!((limited.working_set, limited.available), (700, Some(1300)));
        let free = memory.with_limit(1200, None);
        assert_eq!((free.working_set, free.available), (0, None));
    }
}
