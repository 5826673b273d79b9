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
    /// Takes over what `newer` sets, but for `oom_score_adj`: it belongs to processes that run
    /// already, no cgroup has it, and the field's runtimes leave it as it was at the start.
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

    /// What is to be written so that `newer` holds over these. Limits that mean something only
    /// together (memory and memory with swap, quota and period) come together.
    #[must_use]
    pub fn change_to(&self, newer: &Self) -> Self {
        let mut after = self.clone();
        after.overlay(newer);
        let mut change = newer.clone();
        if newer.cpu_period != 0 || newer.cpu_quota != 0 {
            (change.cpu_period, change.cpu_quota) = (after.cpu_period, after.cpu_quota);
        }
        if newer.memory_limit != 0 || newer.memory_swap_limit != 0 {
            change.memory_limit = after.memory_limit;
            change.memory_swap_limit = after.memory_swap_limit;
        }
        change
    }

    /// What is to be written so that these hold again after `newer` was. What was not limited is
    /// unlimited, or has the kernel's default; of a cpuset that was inherited nothing is known, so
    /// it stays.
    #[must_use]
    pub fn change_back_from(&self, newer: &Self) -> Self {
        let back = |old: i64, new: i64, default: i64| match (old, new) {
            (_, 0) => 0,
            (0, _) => default,
            (old, _) => old,
        };
        let undone = Self {
            cpu_period: back(self.cpu_period, newer.cpu_period, 100_000),
            cpu_quota: back(self.cpu_quota, newer.cpu_quota, -1),
            cpu_shares: back(self.cpu_shares, newer.cpu_shares, 1024),
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            memory_limit: back(self.memory_limit, newer.memory_limit, -1),
            memory_swap_limit: back(self.memory_swap_limit, newer.memory_swap_limit, -1),
            hugepage_limits: self.hugepage_limits.clone(),
            unified: self.unified.clone(),
            oom_score_adj: 0,
        };
        self.change_to(&undone)
    }
}

/// The sum of two limits: negative (no limit) and 0 (not set) are no numbers to add.
fn sum(one: i64, other: i64) -> i64 {
    match (one, other) {
        (0, only) | (only, 0) => only,
        (one, other) if one < 0 || other < 0 => -1,
        (one, other) => one.saturating_add(other),
    }
}

/// What a pod may use in all: its containers and what it costs beside them. Shares and memory add
/// up; so do quotas of the same period.
#[must_use]
pub fn of_pod(overhead: &Resources, containers: &Resources) -> Resources {
    let period = match containers.cpu_period {
        0 => overhead.cpu_period,
        period => period,
    };
    let scaled = |from: &Resources| match (from.cpu_quota, from.cpu_period) {
        (quota @ 1.., 1..) if period > 0 => quota.saturating_mul(period) / from.cpu_period,
        (quota, _) => quota,
    };
    Resources {
        cpu_period: period,
        cpu_quota: sum(scaled(overhead), scaled(containers)),
        cpu_shares: sum(overhead.cpu_shares, containers.cpu_shares),
        memory_limit: sum(overhead.memory_limit, containers.memory_limit),
        ..Resources::default()
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
            oom_score_adj: 7,
            hugepage_limits: vec![("2MB".into(), 3)],
            ..Resources::default()
        };
        old.overlay(&newer);
        assert_eq!((old.cpu_shares, old.memory_limit), (512, 2 << 20));
        assert_eq!(old.oom_score_adj, 0);
        assert_eq!(old.cpuset_cpus, "0");
        assert_eq!(
            old.hugepage_limits,
            vec![("1GB".into(), 2), ("2MB".into(), 3)]
        );
    }

    #[test]
    fn what_means_something_only_together_is_written_together() {
        let old = Resources {
            cpu_quota: 5000,
            cpu_period: 100_000,
            memory_limit: 10,
            memory_swap_limit: 20,
            cpu_shares: 2,
            ..Resources::default()
        };
        let quota = Resources {
            cpu_quota: 7000,
            ..Resources::default()
        };
        let change = old.change_to(&quota);
        assert_eq!((change.cpu_quota, change.cpu_period), (7000, 100_000));
        assert_eq!((change.cpu_shares, change.memory_limit), (0, 0));
        let memory = Resources {
            memory_limit: 15,
            ..Resources::default()
        };
        let change = old.change_to(&memory);
        assert_eq!((change.memory_limit, change.memory_swap_limit), (15, 20));
    }

    #[test]
    fn the_way_back_is_to_what_was_or_to_no_limit() {
        let old = Resources {
            cpu_quota: 5000,
            cpu_period: 100_000,
            ..Resources::default()
        };
        let newer = Resources {
            cpu_quota: 7000,
            memory_limit: 15,
            cpu_shares: 9,
            ..Resources::default()
        };
        let back = old.change_back_from(&newer);
        assert_eq!((back.cpu_quota, back.cpu_period), (5000, 100_000));
        assert_eq!((back.memory_limit, back.cpu_shares), (-1, 1024));
    }

    #[test]
    fn a_pod_may_use_what_its_containers_may_and_its_overhead() {
        let with = |quota, period, memory| Resources {
            cpu_quota: quota,
            cpu_period: period,
            memory_limit: memory,
            ..Resources::default()
        };
        let both = of_pod(&with(1000, 10_000, 5), &with(50_000, 100_000, 7));
        assert_eq!((both.cpu_quota, both.cpu_period), (60_000, 100_000));
        assert_eq!(both.memory_limit, 12);
        let unlimited = of_pod(&with(1000, 10_000, 5), &with(-1, 100_000, 0));
        assert_eq!((unlimited.cpu_quota, unlimited.memory_limit), (-1, 5));
    }
}
