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

impl Resources {
    /// Takes over what `newer` sets.
    pub fn overlay(&mut self, newer: &Self) {
        fn number(old: &mut i64, new: i64) {
            if new != 0 {
                *old = new;
            }
        }
        number(&mut self.cpu_period, newer.cpu_period);
        number(&mut self.cpu_quota, newer.cpu_quota);
        number(&mut self.cpu_shares, newer.cpu_shares);
        number(&mut self.memory_limit, newer.memory_limit);
        number(&mut self.memory_swap_limit, newer.memory_swap_limit);
        number(&mut self.oom_score_adj, newer.oom_score_adj);
        if !newer.cpuset_cpus.is_empty() {
            self.cpuset_cpus.clone_from(&newer.cpuset_cpus);
        }
        if !newer.cpuset_mems.is_empty() {
            self.cpuset_mems.clone_from(&newer.cpuset_mems);
        }
        for (size, limit) in &newer.hugepage_limits {
            self.hugepage_limits.retain(|(old, _)| old != size);
            self.hugepage_limits.push((size.clone(), *limit));
        }
        self.unified.extend(newer.unified.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_taken_over() {
        let mut old = Resources {
            cpu_shares: 512,
            memory_limit: 1 << 20,
            hugepage_limits: vec![("2MB".into(), 1), ("1GB".into(), 2)],
            ..Resources::default()
        };
        let newer = Resources {
            memory_limit: 2 << 20,
            cpuset_cpus: "0".into(),
            hugepage_limits: vec![("2MB".into(), 3)],
            ..Resources::default()
        };
        old.overlay(&newer);
        assert_eq!((old.cpu_shares, old.memory_limit), (512, 2 << 20));
        assert_eq!(old.cpuset_cpus, "0");
        assert_eq!(
            old.hugepage_limits,
            vec![("1GB".into(), 2), ("2MB".into(), 3)]
        );
    }
}
