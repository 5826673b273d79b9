//! `linux.resources` of a runtime spec: the limits of a container's cgroup.

use super::text::Text;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The limits of a cgroup; what is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources<'a> {
    /// Device rules, in order; a later one wins.
    #[serde(borrow)]
    pub devices: Vec<DeviceRule<'a>>,
    /// Memory.
    pub memory: Option<Memory>,
    /// CPU time and placement.
    #[serde(borrow)]
    pub cpu: Option<Cpu<'a>>,
    /// Number of processes.
    pub pids: Option<Pids>,
    /// Block devices.
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    #[serde(borrow)]
    pub hugepage_limits: Vec<HugepageLimit<'a>>,
    /// File names and contents of cgroup v2, written as they are.
    #[serde(borrow)]
    pub unified: BTreeMap<Text<'a>, Text<'a>>,
}

/// Which devices may be used how.
#[derive(Debug, Deserialize)]
pub struct DeviceRule<'a> {
    /// Allow, or deny.
    pub allow: bool,
    /// `a` (all), `b` (block) or `c` (character); absent: all.
    #[serde(borrow, default, rename = "type")]
    pub kind: Option<Text<'a>>,
    /// The major number; absent or negative: any.
    #[serde(default)]
    pub major: Option<i64>,
    /// The minor number; absent or negative: any.
    #[serde(default)]
    pub minor: Option<i64>,
    /// Any of `r`, `w`, `m`; absent: all three.
    #[serde(borrow, default)]
    pub access: Option<Text<'a>>,
}

/// Limits of memory, in bytes; -1: no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// The most that may be used.
    pub limit: Option<i64>,
    /// What it is pushed back to under pressure.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// v1: 0 to 100.
    pub swappiness: Option<u64>,
    /// v1: do not kill, let wait.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
}

/// CPU time and placement.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu<'a> {
    /// Weight, 2 to 262144; 1024 is the default.
    pub shares: Option<u64>,
    /// Microseconds a period; -1: no limit.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// The period in microseconds.
    pub period: Option<u64>,
    /// 1: runs only when nobody else wants to.
    pub idle: Option<i64>,
    /// CPUs, such as `0-2,7`.
    #[serde(borrow)]
    pub cpus: Option<Text<'a>>,
    /// Memory nodes.
    #[serde(borrow)]
    pub mems: Option<Text<'a>>,
}

/// The number of processes; 0 or less: no limit.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Pids {
    /// The limit.
    pub limit: i64,
}

/// Block devices.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
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
