//! Limits of a container or a pod.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a container may use. 0 and `None` mean: not set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period: i64,
    /// CFS quota in microseconds; negative: without limit.
    pub cpu_quota: i64,
    /// Relative weight (v1 `cpu.shares`).
    pub cpu_shares: i64,
    /// CPUs, as a list such as `0-3,7`.
    pub cpuset_cpus: String,
    /// Memory nodes, as a list.
    pub cpuset_mems: String,
    /// Bytes.
    pub memory_limit: i64,
    /// Bytes of memory and swap together.
    pub memory_swap_limit: i64,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// Page size (`2MB`) and bytes.
    pub hugepage_limits: Vec<(String, u64)>,
    /// v2 file names and values.
    pub unified: BTreeMap<String, String>,
}
