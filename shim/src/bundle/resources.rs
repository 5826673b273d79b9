//! `linux.resources` of a runtime spec: the limits of a container's cgroup.

use super::object::object;
use super::text::Text;
use serde::Deserialize;
use std::collections::BTreeMap;

object! {
    /// The limits of a cgroup; what is absent stays as it is.
    pub struct Resources<'a> {
        /// Device rules, in order; a later one wins.
        pub devices: Vec<DeviceRule<'a>> = "devices",
        /// Memory.
        pub memory: Option<Memory> = "memory",
        /// CPU time and placement.
        pub cpu: Option<Cpu<'a>> = "cpu",
        /// Number of processes.
        pub pids: Option<Pids> = "pids",
        /// Block devices.
        pub block_io: Option<BlockIo> = "blockIO",
        /// Huge pages.
        pub hugepage_limits: Vec<HugepageLimit<'a>> = "hugepageLimits",
        /// What the container's packets are marked with.
        pub network: Option<Network<'a>> = "network",
        /// Handles and objects of RDMA devices, by their names.
        pub rdma: BTreeMap<Text<'a>, Rdma> = "rdma",
        /// File names and contents of cgroup v2, written as they are.
        pub unified: BTreeMap<Text<'a>, Text<'a>> = "unified",
    }
}

object! {
    /// Which devices may be used how.
    pub struct DeviceRule<'a> {
        /// Allow, or deny.
        pub allow: bool = "allow",
        /// `a` (all), `b` (block) or `c` (character); absent: all.
        pub kind: Option<Text<'a>> = "type",
        /// The major number; absent or negative: any.
        pub major: Option<i64> = "major",
        /// The minor number; absent or negative: any.
        pub minor: Option<i64> = "minor",
        /// Any of `r`, `w`, `m`; absent: all three.
        pub access: Option<Text<'a>> = "access",
    }
}

object! {
    /// Limits of memory, in bytes; -1: no limit.
    pub struct Memory {
        /// The most that may be used.
        pub limit: Option<i64> = "limit",
        /// What it is pushed back to under pressure.
        pub reservation: Option<i64> = "reservation",
        /// Memory and swap together.
        pub swap: Option<i64> = "swap",
        /// v1: 0 to 100.
        pub swappiness: Option<u64> = "swappiness",
        /// v1: do not kill, let wait.
        pub disable_oom_killer: Option<bool> = "disableOOMKiller",
        /// Refused: no kernel of the last years has it.
        pub kernel: Option<i64> = "kernel",
        /// v1: buffers of TCP.
        pub kernel_tcp: Option<i64> = "kernelTCP",
        /// v1: so it is on every kernel of the last years; refused where it shall not be.
        pub use_hierarchy: Option<bool> = "useHierarchy",
        /// No limit below what is used: kept without being asked for.
        pub check_before_update: Option<bool> = "checkBeforeUpdate",
    }
}

object! {
    /// CPU time and placement.
    pub struct Cpu<'a> {
        /// Weight, 2 to 262144; 1024 is the default.
        pub shares: Option<u64> = "shares",
        /// Microseconds a period; -1: no limit.
        pub quota: Option<i64> = "quota",
        /// Microseconds that may be saved up.
        pub burst: Option<u64> = "burst",
        /// The period in microseconds.
        pub period: Option<u64> = "period",
        /// 1: runs only when nobody else wants to.
        pub idle: Option<i64> = "idle",
        /// CPUs, such as `0-2,7`.
        pub cpus: Option<Text<'a>> = "cpus",
        /// Memory nodes.
        pub mems: Option<Text<'a>> = "mems",
        /// v1: microseconds a period for real-time tasks.
        pub realtime_runtime: Option<i64> = "realtimeRuntime",
        /// v1: that period.
        pub realtime_period: Option<u64> = "realtimePeriod",
    }
}

object! {
    /// The number of processes; -1: no limit.
    #[derive(Clone, Copy)]
    pub struct Pids {
        /// The limit; absent: it stays as it is.
        pub limit: Option<i64> = "limit",
    }
}

object! {
    /// Block devices.
    pub struct BlockIo {
        /// 10 to 1000.
        pub weight: Option<u16> = "weight",
        /// v1: against the cgroups below it.
        pub leaf_weight: Option<u16> = "leafWeight",
        /// The same for one device.
        pub weight_device: Vec<BlockDevice> = "weightDevice",
        /// Bytes a second.
        pub throttle_read_bps_device: Vec<BlockDevice> = "throttleReadBpsDevice",
        /// As above.
        pub throttle_write_bps_device: Vec<BlockDevice> = "throttleWriteBpsDevice",
        /// Operations a second.
        pub throttle_read_iops_device: Vec<BlockDevice> = "throttleReadIOPSDevice",
        /// As above.
        pub throttle_write_iops_device: Vec<BlockDevice> = "throttleWriteIOPSDevice",
    }
}

object! {
    /// What holds for one block device: a weight, or a rate.
    #[derive(Clone, Copy)]
    pub struct BlockDevice {
        /// Its major number.
        pub major: u32 = "major",
        /// Its minor number.
        pub minor: u32 = "minor",
        /// 10 to 1000.
        pub weight: Option<u16> = "weight",
        /// v1: against the cgroups below it.
        pub leaf_weight: Option<u16> = "leafWeight",
        /// A second; 0: no limit.
        pub rate: u64 = "rate",
    }
}

object! {
    /// v1: what a container's packets are marked with.
    pub struct Network<'a> {
        /// The class that its packets belong to.
        pub class_id: Option<u32> = "classID",
        /// The priority of its packets, by interface.
        pub priorities: Vec<InterfacePriority<'a>> = "priorities",
    }
}

object! {
    /// The priority of packets that leave by one interface.
    pub struct InterfacePriority<'a> {
        /// The interface.
        pub name: Text<'a> = "name",
        /// The priority.
        pub priority: u32 = "priority",
    }
}

object! {
    /// What may be used of an RDMA device; absent: as much as there is.
    #[derive(Clone, Copy)]
    pub struct Rdma {
        /// Handles.
        pub hca_handles: Option<u32> = "hcaHandles",
        /// Objects.
        pub hca_objects: Option<u32> = "hcaObjects",
    }
}

/// A limit of huge pages.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit<'a> {
    /// Such as `2MB`.
    #[serde(borrow)]
    pub page_size: Text<'a>,
    /// Bytes.
    pub limit: u64,
}
