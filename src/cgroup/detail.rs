//! All that the kernel accounts for a cgroup, and the limits in force.
//!
//! Sources: the kernel's cgroup-v1 and cgroup-v2 pages. A file that a kernel does not have leaves its
//! figure out; one that cannot be read is an error.

use super::CgroupError;
use super::files::{Directory, Place, Table, if_there, limit, number, parse, text};
use super::traffic;
use super::usage;
use crate::model::cgroup_detail::{
    CgroupDetail, CgroupLimits, CpuTimes, HugePages, MemoryParts, Throttling,
};
use crate::model::hierarchies::Hierarchies;
use std::path::Path;

/// Reads the cgroup at this path below every root; `page_sizes` are those of the node's huge pages.
pub fn read(
    at: &Hierarchies,
    page_sizes: &[String],
    cgroup: &str,
) -> Result<CgroupDetail, CgroupError> {
    Place::reading(at, cgroup, |place| {
        let stat = usage::memory_stat(place)?;
        Ok(CgroupDetail {
            usage: usage::all(place, &stat)?,
            cpu: cpu(place)?,
            memory: memory(place, &stat)?,
            huge_pages: huge_pages(place, page_sizes)?,
            devices: traffic::read(place)?,
            limits: limits(place)?,
            processes: processes(place)?,
        })
    })
}

fn cpu(place: &Place<'_>) -> Result<CpuTimes, CgroupError> {
    match place.of("cpuacct")? {
        Directory::Legacy(at) => Ok(CpuTimes {
            user_ns: number(&at.join("cpuacct.usage_user"))?,
            system_ns: number(&at.join("cpuacct.usage_sys"))?,
            throttling: legacy_throttling(place)?,
        }),
        Directory::Unified(at) => {
            let stat = Table::read(at.join("cpu.stat"))?;
            let nanoseconds = |key| Ok::<_, CgroupError>(stat.get(key)?.saturating_mul(1000));
            Ok(CpuTimes {
                user_ns: nanoseconds("user_usec")?,
                system_ns: nanoseconds("system_usec")?,
                // Without the controller the file tells of times alone.
                throttling: stat.get("nr_periods").ok().map(|periods| Throttling {
                    periods,
                    throttled_periods: stat.get("nr_throttled").unwrap_or(0),
                    throttled_ns: nanoseconds("throttled_usec").unwrap_or(0),
                }),
            })
        }
    }
}

fn legacy_throttling(place: &Place<'_>) -> Result<Option<Throttling>, CgroupError> {
    let Directory::Legacy(at) = place.of("cpu")? else {
        return Ok(None);
    };
    let stat = if_there(Table::read(at.join("cpu.stat")))?;
    let told = |stat: Table| {
        Ok::<_, CgroupError>(Throttling {
            periods: stat.get("nr_periods")?,
            throttled_periods: stat.get("nr_throttled")?,
            throttled_ns: stat.get("throttled_time")?,
        })
    };
    stat.map(told).transpose()
}

fn memory(place: &Place<'_>, stat: &Table) -> Result<MemoryParts, CgroupError> {
    match place.of("memory")? {
        Directory::Legacy(at) => Ok(MemoryParts {
            cache: stat.get("total_cache")?,
            mapped_file: stat.get("total_mapped_file")?,
            // A kernel may be built, or started, so that it does not account for this.
            kernel: if_there(number(&at.join("memory.kmem.usage_in_bytes")))?.unwrap_or(0),
            max_usage: Some(number(&at.join("memory.max_usage_in_bytes"))?),
            limit_hits: number(&at.join("memory.failcnt"))?,
            own_page_faults: stat.get("pgfault")?,
            own_major_page_faults: stat.get("pgmajfault")?,
        }),
        Directory::Unified(at) => Ok(MemoryParts {
            cache: stat.get("file")?,
            mapped_file: stat.get("file_mapped")?,
            kernel: unified_kernel(stat),
            max_usage: if_there(number(&at.join("memory.peak")))?,
            limit_hits: Table::read(at.join("memory.events"))?.get("max")?,
            // Version 2 does not tell a cgroup's own faults apart from those below it.
            own_page_faults: stat.get("pgfault")?,
            own_major_page_faults: stat.get("pgmajfault")?,
        }),
    }
}

/// Its sum, which Linux 5.18 brought; before that its parts.
fn unified_kernel(stat: &Table) -> u64 {
    const PARTS: [&str; 4] = ["kernel_stack", "pagetables", "percpu", "slab"];
    stat.get("kernel")
        .unwrap_or_else(|_| PARTS.iter().filter_map(|part| stat.get(part).ok()).sum())
}

fn huge_pages(place: &Place<'_>, sizes: &[String]) -> Result<Vec<HugePages>, CgroupError> {
    let directory = place.of("hugetlb")?;
    let of_size = |size: &String| {
        let (usage, max_usage) = match &directory {
            Directory::Legacy(at) => {
                let file = |name| at.join(format!("hugetlb.{size}.{name}"));
                let max_usage = if_there(number(&file("max_usage_in_bytes")))?;
                (if_there(number(&file("usage_in_bytes")))?, max_usage)
            }
            Directory::Unified(at) => {
                let file = at.join(format!("hugetlb.{size}.current"));
                (if_there(number(&file))?, None)
            }
        };
        let size = size.clone();
        Ok(usage.map(|usage| HugePages {
            size,
            usage,
            max_usage,
        }))
    };
    let all = sizes.iter().map(of_size);
    all.filter_map(Result::transpose).collect()
}

fn limits(place: &Place<'_>) -> Result<CgroupLimits, CgroupError> {
    let mut limits = CgroupLimits::default();
    match place.of("cpu")? {
        Directory::Legacy(at) => legacy_cpu_limits(&at, &mut limits)?,
        Directory::Unified(at) => unified_cpu_limits(&at, &mut limits)?,
    }
    match place.of("memory")? {
        Directory::Legacy(at) => legacy_memory_limits(&at, &mut limits)?,
        Directory::Unified(at) => unified_memory_limits(&at, &mut limits)?,
    }
    let (Directory::Legacy(at) | Directory::Unified(at)) = place.of("pids")?;
    limits.pids = if_there(limit(&at.join("pids.max")))?.flatten();
    Ok(limits)
}

fn legacy_cpu_limits(at: &Path, limits: &mut CgroupLimits) -> Result<(), CgroupError> {
    // Negative: none.
    let quota = if_there(text(&at.join("cpu.cfs_quota_us")))?;
    limits.cpu_quota = quota.and_then(|quota| quota.trim().parse().ok());
    limits.cpu_period = if_there(number(&at.join("cpu.cfs_period_us")))?;
    limits.cpu_shares = if_there(number(&at.join("cpu.shares")))?;
    Ok(())
}

/// `cpu.max` is a quota, or `max`, and a period.
fn unified_cpu_limits(at: &Path, limits: &mut CgroupLimits) -> Result<(), CgroupError> {
    let path = at.join("cpu.max");
    let max = if_there(text(&path))?.unwrap_or_default();
    if let Some((quota, period)) = max.trim().split_once(' ') {
        limits.cpu_quota = (quota != "max").then(|| parse(&path, quota)).transpose()?;
        limits.cpu_period = Some(parse(&path, period)?);
    }
    let weight = if_there(number(&at.join("cpu.weight")))?;
    limits.cpu_shares = weight.map(shares_of);
    Ok(())
}

/// The shares that Kubernetes turns into this weight (`shim/src/cgroup/weight.rs` does it). More than one
/// number of them may, so this is near what was asked for, and right for the three that everybody uses: 2, 1024 and 262144.
fn shares_of(weight: u64) -> u64 {
    let weight = f64::from(u32::try_from(weight).unwrap_or(10_000));
    let (half, scaled) = (62.5, 612.0 * (weight.log10() + 7.0 / 34.0));
    let shares = ((half * half + scaled).sqrt() - half).exp2().round();
    // The quadratic is at least -7/34 for a weight of 1, so this is a small positive number.
    (shares as u64).clamp(2, 262_144)
}

fn legacy_memory_limits(at: &Path, limits: &mut CgroupLimits) -> Result<(), CgroupError> {
    limits.memory = limit(&at.join("memory.limit_in_bytes"))?;
    limits.memory_reservation = if_there(limit(&at.join("memory.soft_limit_in_bytes")))?.flatten();
    limits.memory_and_swap = if_there(limit(&at.join("memory.memsw.limit_in_bytes")))?.flatten();
    Ok(())
}

fn unified_memory_limits(at: &Path, limits: &mut CgroupLimits) -> Result<(), CgroupError> {
    limits.memory = limit(&at.join("memory.max"))?;
    let swap = if_there(limit(&at.join("memory.swap.max")))?.flatten();
    limits.memory_and_swap = limits
        .memory
        .zip(swap)
        .map(|(memory, swap)| memory.saturating_add(swap));
    // What is kept for certain, and what is kept as far as can be.
    let kept = |name| Ok::<_, CgroupError>(if_there(limit(&at.join(name)))?.flatten());
    let most = kept("memory.min")?.max(kept("memory.low")?);
    limits.memory_reservation = most.filter(|bytes| *bytes > 0);
    Ok(())
}

fn processes(place: &Place<'_>) -> Result<Vec<i32>, CgroupError> {
    let (Directory::Legacy(at) | Directory::Unified(at)) = place.of("memory")?;
    let path = at.join("cgroup.procs");
    let text = text(&path)?;
    text.lines()
        .map(|line| {
            line.parse().map_err(|_| CgroupError::Format {
                path: path.clone(),
                text: line.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
