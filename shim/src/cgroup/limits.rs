//! From a spec's resources to the files of a cgroup.
//!
//! Invariant: a limit that was asked for is written, or the failure names the file and the value.
//! Only what a host may honestly lack is passed over: swap accounting, huge pages, block weights.

use super::{Cgroup, Directory, Version, block, devices, network, weight, write};
use crate::api::{Failure, FailureKind};
use crate::bundle::resources::{Cpu, HugepageLimit, Memory, Resources};
use crate::failure::At;
use rustix::io::Errno;
use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

/// What a file that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// The limit cannot be kept.
    Fails,
    /// This host does not have the mechanism, and the limit is about nothing.
    IsFine,
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Whose directory.
    pub controller: &'static str,
    /// The file in it.
    pub file: Cow<'static, str>,
    /// The text.
    pub value: String,
    /// What it means when there is no such file.
    pub absence: Absence,
}

impl Cgroup {
    /// Writes the limits of a new cgroup, device rules included.
    ///
    /// # Errors
    /// With the file and the value that the kernel refused.
    pub fn apply(&self, resources: &Resources<'_>) -> Result<(), Failure> {
        devices::apply(self, &resources.devices)?;
        self.limit(resources)
    }

    /// Writes the limits that are present.
    ///
    /// # Errors
    /// As above.
    fn limit(&self, resources: &Resources<'_>) -> Result<(), Failure> {
        let version = |controller: &str| {
            self.controller(controller)
                .map(|directory| directory.version)
        };
        let settings = settings(resources, version)?;
        // Some limits bound each other (memory and memory with swap, quota and burst): what is
        // refused at first may be accepted once its neighbours are written.
        let refused: Vec<_> = settings
            .iter()
            .filter(|setting| self.set(setting).is_err())
            .collect();
        for setting in refused {
            self.set(setting)?;
        }
        self.set_unified(resources)
    }

    fn set(&self, setting: &Setting) -> Result<(), Failure> {
        let written = match self.controller(setting.controller) {
            Some(directory) => write(&setting.path(directory), &setting.value),
            None => Err(io::Error::from(Errno::NOENT)),
        };
        match written {
            Err(error)
                if setting.absence == Absence::IsFine
                    && error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            other => other.at(FailureKind::System, || {
                format!("set {} to {}", setting.file, setting.value)
            }),
        }
    }

    fn set_unified(&self, resources: &Resources<'_>) -> Result<(), Failure> {
        for (file, value) in &resources.unified {
            let step = || format!("set {file} to {value}");
            let unified = self
                .unified()
                .ok_or_else(|| Failure::invalid(step(), "this host has no cgroup v2"))?;
            if file.contains('/') {
                return Err(Failure::invalid(step(), "is no name of a cgroup's file"));
            }
            write(&unified.path.join(&**file), value).at(FailureKind::System, step)?;
        }
        Ok(())
    }
}

pub(super) fn settings(
    resources: &Resources<'_>,
    version: impl Fn(&str) -> Option<Version>,
) -> Result<Vec<Setting>, Failure> {
    let of = |controller: &str| version(controller).unwrap_or(Version::V2);
    let mut all = Vec::new();
    if let Some(cpu) = &resources.cpu {
        all.extend(cpu_time(cpu, of("cpu")));
        all.extend(real_time(cpu, of("cpu"))?);
        all.extend(cpuset(cpu));
    }
    if let Some(memory) = &resources.memory {
        all.extend(memory_settings(memory, of("memory"))?);
    }
    if let Some(limit) = resources.pids.and_then(|pids| pids.limit) {
        let limit = match limit {
            // With none at all not even the init could be born into the cgroup.
            0 => 1,
            limit => limit,
        };
        let limit = limit_or_max(limit, Version::V2);
        all.push(setting("pids", "pids.max", limit));
    }
    if let Some(wanted) = &resources.block_io {
        all.extend(block::settings(wanted, version("blkio"))?);
    }
    for limit in &resources.hugepage_limits {
        all.extend(hugepages(limit, of("hugetlb")));
    }
    all.extend(network::settings(resources));
    Ok(all)
}

impl Setting {
    /// Its file; that of the other scheduler of disks, where this host has that one.
    pub(super) fn path(&self, directory: &Directory) -> PathBuf {
        let path = directory.path.join(&*self.file);
        match self.file.split_once(".weight") {
            Some((begin @ ("blkio" | "io"), end)) if !path.exists() => {
                directory.path.join(format!("{begin}.bfq.weight{end}"))
            }
            _ => path,
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "values are numbers and short texts"
)]
pub(super) fn setting(
    controller: &'static str,
    file: &'static str,
    value: impl ToString,
) -> Setting {
    Setting {
        controller,
        file: Cow::Borrowed(file),
        value: value.to_string(),
        absence: Absence::Fails,
    }
}

/// No limit is `-1` on v1 and `max` on v2.
fn limit_or_max(limit: i64, version: Version) -> String {
    match (limit > 0, version) {
        (true, _) => limit.to_string(),
        (false, Version::V1) => "-1".to_owned(),
        (false, Version::V2) => "max".to_owned(),
    }
}

fn cpu_time(cpu: &Cpu<'_>, version: Version) -> Vec<Setting> {
    let shares = cpu.shares.filter(|shares| *shares != 0);
    let period = cpu.period.filter(|period| *period != 0);
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let mut all = Vec::new();
    match version {
        Version::V1 => {
            all.extend(shares.map(|shares| setting("cpu", "cpu.shares", shares)));
            all.extend(period.map(|period| setting("cpu", "cpu.cfs_period_us", period)));
            all.extend(quota.map(|quota| setting("cpu", "cpu.cfs_quota_us", quota.max(-1))));
            all.extend(
                cpu.burst
                    .map(|burst| setting("cpu", "cpu.cfs_burst_us", burst)),
            );
        }
        Version::V2 => {
            all.extend(shares.map(|shares| setting("cpu", "cpu.weight", weight::of(shares))));
            all.extend(cpu_max(quota, period).map(|max| setting("cpu", "cpu.max", max)));
            all.extend(
                cpu.burst
                    .map(|burst| setting("cpu", "cpu.max.burst", burst)),
            );
        }
    }
    all.extend(cpu.idle.map(|idle| setting("cpu", "cpu.idle", idle)));
    all
}

fn real_time(cpu: &Cpu<'_>, version: Version) -> Result<Vec<Setting>, Failure> {
    let period = cpu.realtime_period.filter(|period| *period != 0);
    let runtime = cpu.realtime_runtime.filter(|runtime| *runtime != 0);
    if version == Version::V2 && (period.is_some() || runtime.is_some()) {
        return Err(lacks("cgroup v2 has no real-time limits"));
    }
    let period = period.map(|period| setting("cpu", "cpu.rt_period_us", period));
    let runtime = runtime.map(|runtime| setting("cpu", "cpu.rt_runtime_us", runtime));
    Ok(period.into_iter().chain(runtime).collect())
}

pub(super) fn lacks(what: &str) -> Failure {
    Failure::invalid("plan the limits", what)
}

fn cpu_max(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    let quota = quota.map(|quota| limit_or_max(quota, Version::V2));
    match (quota, period) {
        (None, None) => None,
        (Some(quota), None) => Some(quota),
        (quota, Some(period)) => Some(format!("{} {period}", quota.as_deref().unwrap_or("max"))),
    }
}

fn cpuset(cpu: &Cpu<'_>) -> Vec<Setting> {
    let word = |text: &Option<crate::bundle::text::Text<'_>>| {
        text.as_deref()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let mut all = Vec::new();
    all.extend(word(&cpu.cpus).map(|cpus| setting("cpuset", "cpuset.cpus", cpus)));
    all.extend(word(&cpu.mems).map(|mems| setting("cpuset", "cpuset.mems", mems)));
    all
}

/// A limit that is set: 0 says that it is not.
fn given(limit: Option<i64>) -> Option<i64> {
    limit.filter(|limit| *limit != 0)
}

fn memory_settings(memory: &Memory, version: Version) -> Result<Vec<Setting>, Failure> {
    if given(memory.kernel).is_some() {
        return Err(lacks("this kernel has no limit of kernel memory"));
    }
    if memory.use_hierarchy == Some(false) {
        return Err(lacks("a cgroup's memory counts for those above it"));
    }
    match version {
        Version::V1 => Ok(memory_v1(memory)),
        Version::V2 => memory_v2(memory),
    }
}

fn memory_v1(memory: &Memory) -> Vec<Setting> {
    let bytes = |file, limit| {
        given(limit).map(|limit| setting("memory", file, limit_or_max(limit, Version::V1)))
    };
    let disabled = memory.disable_oom_killer.map(u8::from);
    let all = [
        bytes("memory.limit_in_bytes", memory.limit),
        bytes("memory.soft_limit_in_bytes", memory.reservation),
        bytes("memory.memsw.limit_in_bytes", memory.swap).map(unless_absent),
        bytes("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp),
        memory
            .swappiness
            .map(|value| setting("memory", "memory.swappiness", value)),
        disabled.map(|value| setting("memory", "memory.oom_control", value)),
    ];
    all.into_iter().flatten().collect()
}

fn memory_v2(memory: &Memory) -> Result<Vec<Setting>, Failure> {
    if memory.swappiness.is_some()
        || memory.disable_oom_killer == Some(true)
        || given(memory.kernel_tcp).is_some()
    {
        return Err(lacks(
            "cgroup v2 has neither swappiness, nor a way to disable the OOM killer, nor a limit of TCP",
        ));
    }
    let bytes = |file, limit| {
        given(limit).map(|limit| setting("memory", file, limit_or_max(limit, Version::V2)))
    };
    let swap = swap_alone(given(memory.limit), given(memory.swap))?;
    let all = [
        bytes("memory.max", memory.limit),
        bytes("memory.low", memory.reservation),
        swap.map(|swap| unless_absent(setting("memory", "memory.swap.max", swap))),
    ];
    Ok(all.into_iter().flatten().collect())
}

/// The spec's swap is memory and swap together; the v2 file is about swap alone.
fn swap_alone(limit: Option<i64>, both: Option<i64>) -> Result<Option<String>, Failure> {
    match (limit, both) {
        (_, None) => Ok(None),
        (_, Some(both)) if both < 0 => Ok(Some("max".to_owned())),
        (Some(limit), Some(both)) if limit > 0 && both >= limit => {
            Ok(Some((both - limit).to_string()))
        }
        _ => Err(lacks(
            "a limit of memory and swap together is not below that of memory",
        )),
    }
}

pub(super) fn unless_absent(setting: Setting) -> Setting {
    Setting {
        absence: Absence::IsFine,
        ..setting
    }
}

/// What is used, and where the kernel has it what is reserved.
fn hugepages(limit: &HugepageLimit<'_>, version: Version) -> [Setting; 2] {
    let file = match version {
        Version::V1 => "limit_in_bytes",
        Version::V2 => "max",
    };
    ["", "rsvd."].map(|what| Setting {
        controller: "hugetlb",
        file: Cow::Owned(format!("hugetlb.{}.{what}{file}", &*limit.page_size)),
        value: limit.limit.to_string(),
        absence: Absence::IsFine,
    })
}

/// The directory of a controller, for who must have it.
///
/// # Errors
/// This host has no such controller.
pub(super) fn required<'a>(cgroup: &'a Cgroup, controller: &str) -> Result<&'a Directory, Failure> {
    let missing = || {
        Failure::invalid(
            "plan the limits",
            format!("this host has no {controller} controller"),
        )
    };
    cgroup.controller(controller).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(version: Version, json: &str) -> Result<Vec<(String, String)>, Failure> {
        let resources: Resources<'_> = serde_json::from_str(json).unwrap();
        let blkio = |name: &str| (name != "blkio" || version == Version::V1).then_some(version);
        settings(&resources, blkio).map(|all| {
            all.into_iter()
                .map(|setting| (setting.file.into_owned(), setting.value))
                .collect()
        })
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
            .collect()
    }

    const ALL: &str = r#"{"cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1"},
        "memory":{"limit":1000,"reservation":500,"swap":1500},"pids":{"limit":7},
        "blockIO":{"weight":1000},"hugepageLimits":[{"pageSize":"2MB","limit":4}]}"#;

    #[test]
    fn the_same_limits_in_both_languages() {
        assert_eq!(
            on(Version::V1, ALL).unwrap(),
            pairs(&[
                ("cpu.shares", "1024"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpuset.cpus", "0-1"),
                ("memory.limit_in_bytes", "1000"),
                ("memory.soft_limit_in_bytes", "500"),
                ("memory.memsw.limit_in_bytes", "1500"),
                ("pids.max", "7"),
                ("blkio.weight", "1000"),
                ("hugetlb.2MB.limit_in_bytes", "4"),
                ("hugetlb.2MB.rsvd.limit_in_bytes", "4"),
            ])
        );
        assert_eq!(
            on(Version::V2, ALL).unwrap(),
            pairs(&[
                ("cpu.weight", "100"),
                ("cpu.max", "50000 100000"),
                ("cpuset.cpus", "0-1"),
                ("memory.max", "1000"),
                ("memory.low", "500"),
                ("memory.swap.max", "500"),
                ("pids.max", "7"),
                ("io.weight", "10000"),
                ("hugetlb.2MB.max", "4"),
                ("hugetlb.2MB.rsvd.max", "4"),
            ])
        );
    }

    #[test]
    fn no_limit_and_not_set_are_different() {
        let json = r#"{"cpu":{"shares":0,"quota":-1,"period":0},"memory":{"limit":-1,"swap":0},"pids":{"limit":-1}}"#;
        assert_eq!(
            on(Version::V1, json).unwrap(),
            pairs(&[
                ("cpu.cfs_quota_us", "-1"),
                ("memory.limit_in_bytes", "-1"),
                ("pids.max", "max")
            ])
        );
        assert_eq!(
            on(Version::V2, json).unwrap(),
            pairs(&[
                ("cpu.max", "max"),
                ("memory.max", "max"),
                ("pids.max", "max")
            ])
        );
    }

    #[test]
    fn what_v2_cannot_keep_is_refused() {
        assert!(on(Version::V2, r#"{"memory":{"swappiness":1}}"#).is_err());
        assert!(on(Version::V2, r#"{"memory":{"limit":2000,"swap":1000}}"#).is_err());
        assert!(on(Version::V2, r#"{"memory":{"swap":1000}}"#).is_err());
    }
}
