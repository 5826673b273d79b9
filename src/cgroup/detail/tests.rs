//! Cgroups of both versions, as directories of files.

use super::*;
use crate::model::cgroup_detail::DeviceTraffic;
use crate::model::hierarchies::LegacyHierarchy;
use std::fs;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn unified(root: &Path) -> Hierarchies {
    Hierarchies {
        legacy: Vec::new(),
        unified: Some(root.to_owned()),
    }
}

fn hybrid(root: &Path) -> Hierarchies {
    let names = ["cpu", "cpuacct", "memory", "pids", "blkio"];
    Hierarchies {
        legacy: names
            .map(|name| LegacyHierarchy {
                controllers: vec![name.to_owned()],
                root: root.join(name),
            })
            .into(),
        unified: Some(root.join("unified")),
    }
}

const LEGACY: [(&str, &str); 27] = [
    ("cpuacct/a/cpuacct.usage", "3000\n"),
    ("cpuacct/a/cpuacct.usage_user", "2000\n"),
    ("cpuacct/a/cpuacct.usage_sys", "1000\n"),
    (
        "cpu/a/cpu.stat",
        "nr_periods 7\nnr_throttled 2\nthrottled_time 99\nnr_bursts 0\n",
    ),
    ("cpu/a/cpu.cfs_quota_us", "20000\n"),
    ("cpu/a/cpu.cfs_period_us", "100000\n"),
    ("cpu/a/cpu.shares", "512\n"),
    ("memory/a/memory.usage_in_bytes", "100\n"),
    ("memory/a/memory.max_usage_in_bytes", "200\n"),
    ("memory/a/memory.limit_in_bytes", "67108864\n"),
    (
        "memory/a/memory.soft_limit_in_bytes",
        "9223372036854771712\n",
    ),
    ("memory/a/memory.memsw.usage_in_bytes", "130\n"),
    ("memory/a/memory.memsw.limit_in_bytes", "134217728\n"),
    ("memory/a/memory.kmem.usage_in_bytes", "12\n"),
    ("memory/a/memory.failcnt", "5\n"),
    (
        "memory/a/memory.stat",
        "cache 1\npgfault 3\npgmajfault 4\ntotal_cache 10\ntotal_rss 20\ntotal_mapped_file 30\ntotal_inactive_file 40\ntotal_pgfault 50\ntotal_pgmajfault 60\n",
    ),
    (
        "memory/a/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    ),
    ("memory/a/cgroup.procs", "17\n18\n"),
    ("pids/a/pids.current", "3\n"),
    ("pids/a/pids.max", "max\n"),
    (
        "blkio/a/blkio.throttle.io_service_bytes_recursive",
        "8:0 Read 4096\nTotal 4096\n",
    ),
    (
        "blkio/a/blkio.throttle.io_serviced_recursive",
        "8:0 Read 1\nTotal 1\n",
    ),
    ("unified/a/hugetlb.2MB.current", "2097152\n"),
    (
        "unified/a/cpu.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
    ),
    ("unified/a/memory.pressure", ""),
    ("unified/a/io.pressure", ""),
    ("unified/a/cgroup.procs", "17\n18\n"),
];

fn sizes() -> [String; 2] {
    ["2MB".to_owned(), "1GB".to_owned()]
}

#[test]
fn version_1_is_read_with_huge_pages_where_they_are() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &LEGACY);
    let read = read(&hybrid(root.path()), &sizes(), "/a").unwrap();
    assert_eq!((read.usage.cpu_ns, read.usage.oom_kills), (3000, 1));
    let cpu = CpuTimes {
        user_ns: 2000,
        system_ns: 1000,
        throttling: Some(Throttling {
            periods: 7,
            throttled_periods: 2,
            throttled_ns: 99,
        }),
    };
    assert_eq!(read.cpu, cpu);
    let memory = MemoryParts {
        cache: 10,
        mapped_file: 30,
        kernel: 12,
        max_usage: Some(200),
        limit_hits: 5,
        own_page_faults: 3,
        own_major_page_faults: 4,
    };
    assert_eq!(read.memory, memory);
    let limits = CgroupLimits {
        cpu_period: Some(100_000),
        cpu_quota: Some(20_000),
        cpu_shares: Some(512),
        memory: Some(1 << 26),
        memory_reservation: None,
        memory_and_swap: Some(1 << 27),
        pids: None,
    };
    assert_eq!(read.limits, limits);
    let pages = HugePages {
        size: "2MB".into(),
        usage: 2 << 20,
        max_usage: None,
    };
    assert_eq!(read.huge_pages, [pages]);
    let disk = DeviceTraffic {
        major: 8,
        minor: 0,
        bytes: vec![("Read".into(), 4096)],
        operations: vec![("Read".into(), 1)],
    };
    assert_eq!(read.devices, [disk]);
    assert_eq!(read.processes, [17, 18]);
}

#[test]
fn version_1_without_a_quota_says_so_and_its_own_huge_pages_have_a_maximum() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &LEGACY);
    write(
        root.path(),
        &[
            ("cpu/a/cpu.cfs_quota_us", "-1\n"),
            ("hugetlb/a/hugetlb.1GB.usage_in_bytes", "0\n"),
            ("hugetlb/a/hugetlb.1GB.max_usage_in_bytes", "1073741824\n"),
        ],
    );
    let mut at = hybrid(root.path());
    at.legacy.push(LegacyHierarchy {
        controllers: vec!["hugetlb".to_owned()],
        root: root.path().join("hugetlb"),
    });
    let read = read(&at, &sizes(), "/a").unwrap();
    assert_eq!(read.limits.cpu_quota, None);
    let pages = HugePages {
        size: "1GB".into(),
        usage: 0,
        max_usage: Some(1 << 30),
    };
    assert_eq!(read.huge_pages, [pages]);
}

const UNIFIED: [(&str, &str); 12] = [
    (
        "p/c/cpu.stat",
        "usage_usec 42\nuser_usec 40\nsystem_usec 2\nnr_periods 9\nnr_throttled 3\nthrottled_usec 8\n",
    ),
    ("p/c/cpu.max", "50000 100000\n"),
    ("p/c/cpu.weight", "100\n"),
    ("p/c/memory.current", "9000\n"),
    ("p/c/memory.peak", "9500\n"),
    ("p/c/memory.max", "1000\n"),
    ("p/c/memory.min", "0\n"),
    ("p/c/memory.low", "max\n"),
    (
        "p/c/memory.stat",
        "anon 5000\nfile 70\nkernel 33\nkernel_stack 1\nslab 2\nfile_mapped 60\ninactive_file 10\npgfault 9\npgmajfault 1\n",
    ),
    ("p/c/memory.events", "low 0\nmax 4\noom 1\noom_kill 1\n"),
    (
        "p/c/io.stat",
        "253:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
    ),
    ("p/c/cgroup.procs", ""),
];

#[test]
fn version_2_is_read() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &UNIFIED);
    write(
        root.path(),
        &[
            ("p/c/memory.swap.current", "1\n"),
            ("p/c/memory.swap.max", "500\n"),
        ],
    );
    let read = read(&unified(root.path()), &sizes(), "/p/c").unwrap();
    assert_eq!((read.cpu.user_ns, read.cpu.system_ns), (40_000, 2_000));
    let throttling = read.cpu.throttling.unwrap();
    assert_eq!((throttling.periods, throttling.throttled_ns), (9, 8_000));
    let memory = MemoryParts {
        cache: 70,
        mapped_file: 60,
        kernel: 33,
        max_usage: Some(9500),
        limit_hits: 4,
        own_page_faults: 9,
        own_major_page_faults: 1,
    };
    assert_eq!(read.memory, memory);
    let limits = CgroupLimits {
        cpu_period: Some(100_000),
        cpu_quota: Some(50_000),
        cpu_shares: Some(1024),
        memory: Some(1000),
        memory_reservation: None,
        memory_and_swap: Some(1500),
        pids: None,
    };
    assert_eq!(read.limits, limits);
    assert_eq!(read.devices.len(), 1);
    assert!(read.huge_pages.is_empty() && read.processes.is_empty());
}

#[test]
fn an_older_version_2_has_no_peak_and_kernel_memory_in_parts() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &UNIFIED);
    let old = "anon 1\nfile 2\nfile_mapped 3\nkernel_stack 10\npagetables 20\nslab 30\ninactive_file 0\npgfault 0\npgmajfault 0\n";
    write(
        root.path(),
        &[
            ("p/c/memory.stat", old),
            ("p/c/cpu.max", "max 100000\n"),
            ("p/c/cpu.stat", "usage_usec 1\nuser_usec 1\nsystem_usec 0\n"),
            ("p/c/memory.min", "4096\n"),
        ],
    );
    fs::remove_file(root.path().join("p/c/memory.peak")).unwrap();
    let read = read(&unified(root.path()), &[], "/p/c").unwrap();
    assert_eq!((read.memory.kernel, read.memory.max_usage), (60, None));
    assert_eq!(read.cpu.throttling, None, "the controller is off");
    assert_eq!(read.limits.cpu_quota, None);
    assert_eq!(read.limits.memory_reservation, Some(4096));
}

#[test]
fn an_absent_cgroup_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let missing = read(&unified(root.path()), &[], "/nobody").unwrap_err();
    assert!(matches!(missing, CgroupError::Missing(_)), "{missing}");
}

#[test]
fn the_weights_that_everybody_uses_are_the_shares_they_came_from() {
    for (weight, shares) in [(1, 2), (100, 1024), (10_000, 262_144)] {
        assert_eq!(shares_of(weight), shares, "weight {weight}");
    }
    let mut last = 0;
    for weight in 1..=10_000 {
        let shares = shares_of(weight);
        assert!(shares >= last, "weight {weight} has {shares} after {last}");
        last = shares;
    }
}
