//! What a cgroup uses: the few files of each version that say it.
//!
//! Sources: the kernel's cgroup-v1/memory, cgroup-v1/cpuacct, cgroup-v1/pids and cgroup-v2 pages.

use super::CgroupError;
use super::files::{Directory, Place, Table, if_there, limit, number, text};
use crate::model::hierarchies::Hierarchies;
use crate::model::stats::{CgroupUsage, Memory, Pressure, Stall, Swap};
use std::io::ErrorKind;
use std::path::Path;

/// Reads the cgroup at this path below every root.
pub fn read(at: &Hierarchies, cgroup: &str) -> Result<CgroupUsage, CgroupError> {
    Place::reading(at, cgroup, |place| all(place, &memory_stat(place)?))
}

/// What the cgroup uses, with what its `memory.stat` says: no other file takes the kernel as long.
pub(super) fn all(place: &Place<'_>, stat: &Table) -> Result<CgroupUsage, CgroupError> {
    let (memory, swap, oom_kills) = memory(place, stat)?;
    Ok(CgroupUsage {
        cpu_ns: cpu(place)?,
        memory,
        swap,
        pids: pids(place)?,
        oom_kills,
        pressure: pressure(place)?,
    })
}

fn cpu(place: &Place<'_>) -> Result<u64, CgroupError> {
    match place.of("cpuacct")? {
        Directory::Legacy(at) => number(&at.join("cpuacct.usage")),
        Directory::Unified(at) => {
            let stat = Table::read(at.join("cpu.stat"))?;
            Ok(stat.get("usage_usec")?.saturating_mul(1000))
        }
    }
}

/// Version 2 tells it also beside version 1, for a cgroup that is there as well. With `psi=0` the
/// files are not there, or cannot be read.
fn pressure(place: &Place<'_>) -> Result<Pressure, CgroupError> {
    let Some(root) = &place.at.unified else {
        return Ok(Pressure::default());
    };
    let stall = |resource: &str| {
        let path = root.join(place.path).join(format!("{resource}.pressure"));
        match text(&path) {
            Ok(text) => Ok(Stall::parse(&text)),
            Err(CgroupError::Io { source, .. }) if is_off(&source) => Ok(None),
            Err(error) => Err(error),
        }
    };
    Ok(Pressure {
        cpu: stall("cpu")?,
        memory: stall("memory")?,
        io: stall("io")?,
    })
}

fn is_off(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported)
}

/// `None` where the controller is off for this cgroup.
fn pids(place: &Place<'_>) -> Result<Option<u64>, CgroupError> {
    match place.of("pids")? {
        Directory::Legacy(at) | Directory::Unified(at) => {
            if_there(number(&at.join("pids.current")))
        }
    }
}

/// The cgroup's `memory.stat`.
pub(super) fn memory_stat(place: &Place<'_>) -> Result<Table, CgroupError> {
    match place.of("memory")? {
        Directory::Legacy(at) | Directory::Unified(at) => Table::read(at.join("memory.stat")),
    }
}

fn memory(place: &Place<'_>, stat: &Table) -> Result<(Memory, Option<Swap>, u64), CgroupError> {
    match place.of("memory")? {
        Directory::Legacy(at) => legacy_memory(&at, stat),
        Directory::Unified(at) => unified_memory(&at, stat),
    }
}

fn legacy_memory(at: &Path, stat: &Table) -> Result<(Memory, Option<Swap>, u64), CgroupError> {
    let limit = limit(&at.join("memory.limit_in_bytes"))?;
    let memory = Memory {
        usage: number(&at.join("memory.usage_in_bytes"))?,
        rss: stat.get("total_rss")?,
        page_faults: stat.get("total_pgfault")?,
        major_page_faults: stat.get("total_pgmajfault")?,
        ..Memory::default()
    }
    .with_limit(stat.get("total_inactive_file")?, limit);
    let swap = legacy_swap(at, memory.usage, limit)?;
    let oom = Table::read(at.join("memory.oom_control"))?;
    Ok((memory, swap, oom.get("oom_kill").unwrap_or(0)))
}

/// Version 1 counts memory and swap together.
fn legacy_swap(at: &Path, memory: u64, limit: Option<u64>) -> Result<Option<Swap>, CgroupError> {
    let Some(both) = if_there(number(&at.join("memory.memsw.usage_in_bytes")))? else {
        return Ok(None);
    };
    let both_limit = self::limit(&at.join("memory.memsw.limit_in_bytes"))?;
    let usage = both.saturating_sub(memory);
    let swap_limit = both_limit
        .zip(limit)
        .map(|(both, memory)| both.saturating_sub(memory));
    Ok(Some(Swap {
        usage,
        available: swap_limit.map(|limit| limit.saturating_sub(usage)),
    }))
}

fn unified_memory(at: &Path, stat: &Table) -> Result<(Memory, Option<Swap>, u64), CgroupError> {
    let memory = Memory {
        usage: number(&at.join("memory.current"))?,
        rss: stat.get("anon")?,
        page_faults: stat.get("pgfault")?,
        major_page_faults: stat.get("pgmajfault")?,
        ..Memory::default()
    }
    .with_limit(stat.get("inactive_file")?, limit(&at.join("memory.max"))?);
    let events = Table::read(at.join("memory.events"))?;
    Ok((memory, unified_swap(at)?, events.get("oom_kill")?))
}

fn unified_swap(at: &Path) -> Result<Option<Swap>, CgroupError> {
    let Some(usage) = if_there(number(&at.join("memory.swap.current")))? else {
        return Ok(None);
    };
    let limit = limit(&at.join("memory.swap.max"))?;
    Ok(Some(Swap {
        usage,
        available: limit.map(|limit| limit.saturating_sub(usage)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hierarchies::LegacyHierarchy;
    use std::fs;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    const LEGACY: [(&str, &str); 9] = [
        ("cpuacct/a/cpuacct.usage", "123456789\n"),
        ("memory/a/memory.usage_in_bytes", "10000\n"),
        ("memory/a/memory.limit_in_bytes", "50000\n"),
        (
            "memory/a/memory.stat",
            "rss 1\ninactive_file 2\ntotal_rss 4000\ntotal_inactive_file 3000\ntotal_pgfault 77\ntotal_pgmajfault 7\n",
        ),
        ("memory/a/memory.memsw.usage_in_bytes", "12000\n"),
        ("memory/a/memory.memsw.limit_in_bytes", "60000\n"),
        (
            "memory/a/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
        ("pids/a/pids.current", "3\n"),
        ("unified/a/cgroup.procs", ""),
    ];

    fn hybrid(root: &Path) -> Hierarchies {
        Hierarchies {
            legacy: ["cpuacct", "memory", "pids"]
                .map(|name| LegacyHierarchy {
                    controllers: vec![name.to_owned()],
                    root: root.join(name),
                })
                .into(),
            unified: Some(root.join("unified")),
        }
    }

    #[test]
    fn version_1_is_read_with_its_children_counted() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &LEGACY);
        let usage = read(&hybrid(root.path()), "/a").unwrap();
        assert_eq!(
            (usage.cpu_ns, usage.pids, usage.oom_kills),
            (123_456_789, Some(3), 2)
        );
        let memory = Memory {
            usage: 10_000,
            working_set: 7_000,
            available: Some(43_000),
            rss: 4_000,
            page_faults: 77,
            major_page_faults: 7,
        };
        assert_eq!(usage.memory, memory);
        let swap = Swap {
            usage: 2_000,
            available: Some(8_000),
        };
        assert_eq!(usage.swap, Some(swap));
    }

    #[test]
    fn version_1_without_limit_or_swap_accounting_says_so() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &LEGACY);
        let no_limit = ("memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        write(root.path(), &[no_limit]);
        fs::remove_file(root.path().join("memory/a/memory.memsw.usage_in_bytes")).unwrap();
        let usage = read(&hybrid(root.path()), "/a").unwrap();
        assert_eq!((usage.memory.available, usage.swap), (None, None));
    }

    #[test]
    fn version_2_is_read() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("p/c/cpu.stat", "usage_usec 42\nuser_usec 40\n"),
                ("p/c/memory.current", "9000\n"),
                ("p/c/memory.max", "max\n"),
                (
                    "p/c/memory.stat",
                    "anon 5000\ninactive_file 1000\npgfault 9\npgmajfault 1\n",
                ),
                ("p/c/memory.swap.current", "100\n"),
                ("p/c/memory.swap.max", "150\n"),
                ("p/c/memory.events", "oom 1\noom_kill 1\n"),
                (
                    "p/c/io.pressure",
                    "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
                ),
            ],
        );
        let at = Hierarchies {
            legacy: Vec::new(),
            unified: Some(root.path().to_owned()),
        };
        let usage = read(&at, "/p/c").unwrap();
        assert_eq!(
            (usage.cpu_ns, usage.pids, usage.oom_kills),
            (42_000, None, 1)
        );
        assert_eq!((usage.memory.working_set, usage.memory.rss), (8_000, 5_000));
        assert_eq!(usage.swap.unwrap().available, Some(50));
        let io = usage.pressure.io.unwrap();
        assert_eq!((io.some.total_ns, io.full.total_ns), (7_000, 2_000));
        assert_eq!(usage.pressure.cpu, None, "no file, no figure");
    }

    #[test]
    fn an_absent_cgroup_is_missing_and_nonsense_names_its_file() {
        let root = tempfile::tempdir().unwrap();
        let at = hybrid(root.path());
        let missing = read(&at, "/nobody").unwrap_err();
        assert!(matches!(missing, CgroupError::Missing(_)), "{missing}");
        write(root.path(), &LEGACY);
        write(root.path(), &[("cpuacct/a/cpuacct.usage", "many")]);
        let nonsense = read(&at, "/a").unwrap_err().to_string();
        assert!(nonsense.contains("cpuacct.usage") && nonsense.contains("many"));
    }
}
