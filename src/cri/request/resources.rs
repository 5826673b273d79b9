//! Limits.

use super::check::{refuse, text};
use crate::error::{Error, Result};
use crate::model::resources::Resources;
use corten_proto::runtime::v1;
use std::collections::BTreeMap;

impl TryFrom<v1::LinuxContainerResources> for Resources {
    type Error = Error;

    fn try_from(asked: v1::LinuxContainerResources) -> Result<Self> {
        Ok(Self {
            cpu_period: at_least(asked.cpu_period, 0, "cpu_period")?,
            cpu_quota: at_least(asked.cpu_quota, -1, "cpu_quota")?,
            cpu_shares: at_least(asked.cpu_shares, 0, "cpu_shares")?,
            cpuset_cpus: ranges(asked.cpuset_cpus, "cpuset_cpus")?,
            cpuset_mems: ranges(asked.cpuset_mems, "cpuset_mems")?,
            memory_limit: at_least(asked.memory_limit_in_bytes, -1, "memory_limit_in_bytes")?,
            memory_swap_limit: at_least(
                asked.memory_swap_limit_in_bytes,
                -1,
                "memory_swap_limit_in_bytes",
            )?,
            oom_score_adj: oom_score_adj(asked.oom_score_adj)?,
            hugepage_limits: hugepages(asked.hugepage_limits)?,
            unified: unified(asked.unified)?,
        })
    }
}

fn at_least(value: i64, least: i64, field: &str) -> Result<i64> {
    match value >= least {
        true => Ok(value),
        false => Err(refuse(field, format!("{value} is less than {least}"))),
    }
}

fn oom_score_adj(value: i64) -> Result<i64> {
    match (-1000..=1000).contains(&value) {
        true => Ok(value),
        false => Err(refuse(
            "oom_score_adj",
            format!("{value} is not within -1000 and 1000"),
        )),
    }
}

/// `0-3,8`, or nothing.
fn ranges(list: String, field: &str) -> Result<String> {
    let number = |text: &str| text.parse::<u32>().is_ok();
    let range = |text: &str| {
        text.split_once('-')
            .map_or(number(text), |(a, b)| number(a) && number(b))
    };
    match list.is_empty() || list.split(',').all(range) {
        true => Ok(list),
        false => Err(refuse(field, format!("{list:?} is no list such as 0-3,8"))),
    }
}

/// Page sizes are part of a file's name, so they are held to their form.
fn hugepages(limits: Vec<v1::HugepageLimit>) -> Result<Vec<(String, u64)>> {
    let one = |limit: v1::HugepageLimit| {
        let digits = limit.page_size.trim_end_matches(['K', 'M', 'G', 'B']);
        let unit = &limit.page_size[digits.len()..];
        match digits.parse::<u64>().is_ok() && matches!(unit, "KB" | "MB" | "GB") {
            true => Ok((limit.page_size, limit.limit)),
            false => Err(refuse(
                "hugepage_limits",
                format!("{:?} is no page size such as 2MB", limit.page_size),
            )),
        }
    };
    limits.into_iter().map(one).collect()
}

/// Names of files in the container's cgroup: `controller.name`. Those of the core (`cgroup.*`)
/// would move or freeze processes and are no limits.
fn unified(files: std::collections::HashMap<String, String>) -> Result<BTreeMap<String, String>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let one = |(name, value): (String, String)| {
        let controller = name
            .split_once('.')
            .map_or("", |(controller, _)| controller);
        if controller.is_empty() || controller == "cgroup" || !name.chars().all(plain) {
            return Err(refuse(
                "unified",
                format!("{name:?} is no file of a controller"),
            ));
        }
        Ok((name, text(value, "unified")?))
    };
    files.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(resources: v1::LinuxContainerResources) -> Result<Resources> {
        resources.try_into()
    }

    #[test]
    fn limits_are_taken_as_they_are() {
        let taken = check(v1::LinuxContainerResources {
            cpu_quota: -1,
            cpuset_cpus: "0-3,8".into(),
            oom_score_adj: -997,
            hugepage_limits: vec![v1::HugepageLimit {
                page_size: "2MB".into(),
                limit: 7,
            }],
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        })
        .unwrap();
        assert_eq!((taken.cpu_quota, taken.oom_score_adj), (-1, -997));
        assert_eq!(taken.hugepage_limits, [("2MB".to_owned(), 7)]);
        assert_eq!(taken.unified["memory.high"], "1");
    }

    #[test]
    fn a_name_that_would_be_another_file_is_refused() {
        for name in [
            "../memory.high",
            "cgroup.procs",
            "memory/high",
            "memory",
            ".high",
        ] {
            let unified = [(name.to_owned(), "1".to_owned())].into();
            let asked = v1::LinuxContainerResources {
                unified,
                ..Default::default()
            };
            assert!(check(asked).is_err(), "{name}");
        }
        for page_size in ["", "2M", "../2MB", "MB", "2MBB"] {
            let limit = v1::HugepageLimit {
                page_size: page_size.into(),
                limit: 1,
            };
            let asked = v1::LinuxContainerResources {
                hugepage_limits: vec![limit],
                ..Default::default()
            };
            assert!(check(asked).is_err(), "{page_size}");
        }
    }

    #[test]
    fn values_out_of_range_name_their_field() {
        let error = check(v1::LinuxContainerResources {
            oom_score_adj: 1001,
            ..Default::default()
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("oom_score_adj: ")
        );
        for cpus in ["a", "0-", "1,,2", "0-3\n"] {
            let asked = v1::LinuxContainerResources {
                cpuset_cpus: cpus.into(),
                ..Default::default()
            };
            assert!(check(asked).is_err(), "{cpus}");
        }
    }
}
