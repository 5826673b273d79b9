//! Limits in force.

use super::map;
use crate::model::resources::Resources;
use corten_proto::runtime::v1;

impl From<&Resources> for v1::LinuxContainerResources {
    fn from(limits: &Resources) -> Self {
        let hugepage = |(size, limit): &(String, u64)| v1::HugepageLimit {
            page_size: size.clone(),
            limit: *limit,
        };
        Self {
            cpu_period: limits.cpu_period,
            cpu_quota: limits.cpu_quota,
            cpu_shares: limits.cpu_shares,
            memory_limit_in_bytes: limits.memory_limit,
            oom_score_adj: limits.oom_score_adj,
            cpuset_cpus: limits.cpuset_cpus.clone(),
            cpuset_mems: limits.cpuset_mems.clone(),
            hugepage_limits: limits.hugepage_limits.iter().map(hugepage).collect(),
            unified: map(&limits.unified),
            memory_swap_limit_in_bytes: limits.memory_swap_limit,
        }
    }
}
