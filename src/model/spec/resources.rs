//! Limits of a cgroup in the OCI form.

use crate::error::{Error, Result};
use crate::model::host::{CgroupMode, HostFacts};
use crate::model::resources::Resources;
use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};

/// Only what is set, so that the same serves a new container and an update of one.
///
/// # Errors
/// `InvalidArgument` with the field's name; `FailedPrecondition` for what these cgroups lack.
pub fn limits(resources: &Resources, host: &HostFacts) -> Result<LinuxResources> {
    let mut limits = LinuxResources::default();
    limits
        .set_cpu(cpu(resources)?)
        .set_memory(memory(resources, host)?)
        .set_hugepage_limits(huge_pages(resources, host)?);
    if !resources.unified.is_empty() {
        limits.set_unified(Some(unified(resources, host)?));
    }
    Ok(limits)
}

fn cpu(resources: &Resources) -> Result<Option<LinuxCpu>> {
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(positive("cpu_shares", resources.cpu_shares)?)
        .set_period(positive("cpu_period", resources.cpu_period)?)
        .set_quota(Some(resources.cpu_quota).filter(|quota| *quota != 0))
        .set_cpus(text(&resources.cpuset_cpus))
        .set_mems(text(&resources.cpuset_mems));
    Ok(Some(cpu).filter(|cpu| *cpu != LinuxCpu::default()))
}

/// A memory limit alone means no swap, as the protocol says, and no limit of memory none of swap.
/// Without swap accounting a limit on swap cannot be kept; the field lets it go, so that a pod
/// with a plain memory limit can run at all.
fn memory(resources: &Resources, host: &HostFacts) -> Result<Option<LinuxMemory>> {
    let set = |value: i64| Some(value).filter(|value| *value != 0);
    let limit = resources.memory_limit;
    let swap = match resources.memory_swap_limit {
        0 => limit,
        swap => swap,
    };
    if limit > 0 && swap > 0 && swap < limit {
        return Err(Error::invalid(format!(
            "resources.memory_swap_limit_in_bytes {swap} is below memory_limit_in_bytes {limit}: it counts both"
        )));
    }
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(set(limit))
        .set_swap(set(swap).filter(|_| host.swap_accounting));
    Ok(Some(memory).filter(|memory| *memory != LinuxMemory::default()))
}

/// The kubelet sends a limit of 0 for each page size of a node, also where the kernel has no
/// controller for them; then there is nothing to limit.
fn huge_pages(resources: &Resources, host: &HostFacts) -> Result<Option<Vec<LinuxHugepageLimit>>> {
    if !host.controllers.iter().any(|c| c == "hugetlb") {
        return match resources
            .hugepage_limits
            .iter()
            .find(|(_, bytes)| *bytes > 0)
        {
            None => Ok(None),
            Some((size, _)) => Err(Error::precondition(format!(
                "resources.hugepage_limits {size:?}: this node has no hugetlb controller"
            ))),
        };
    }
    let limits = resources
        .hugepage_limits
        .iter()
        .map(|(size, bytes)| huge_page(size, *bytes))
        .collect::<Result<Vec<_>>>()?;
    Ok(Some(limits).filter(|limits| !limits.is_empty()))
}

fn huge_page(size: &str, bytes: u64) -> Result<LinuxHugepageLimit> {
    let unit = size.trim_start_matches(|c: char| c.is_ascii_digit());
    if unit == size || !matches!(unit, "KB" | "MB" | "GB") {
        return Err(Error::invalid(format!(
            "resources.hugepage_limits.page_size {size:?} is no size like 2MB"
        )));
    }
    let mut limit = LinuxHugepageLimit::default();
    limit
        .set_page_size(size.to_owned())
        .set_limit(i64::try_from(bytes).unwrap_or(i64::MAX));
    Ok(limit)
}

fn unified(
    resources: &Resources,
    host: &HostFacts,
) -> Result<std::collections::HashMap<String, String>> {
    if host.cgroups != CgroupMode::Unified {
        return Err(Error::precondition(
            "resources.unified: this node's controllers are on cgroup v1",
        ));
    }
    if let Some(bad) = resources.unified.keys().find(|name| !is_file_name(name)) {
        return Err(Error::invalid(format!(
            "resources.unified: {bad:?} is no file of a cgroup"
        )));
    }
    Ok(resources.unified.clone().into_iter().collect())
}

fn is_file_name(name: &str) -> bool {
    name.contains('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn positive(field: &str, value: i64) -> Result<Option<u64>> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(Error::invalid(format!(
            "resources.{field} {value} is negative"
        ))),
    }
}
