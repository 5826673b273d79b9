//! Readings as samples, and what holds for all of them.

use super::*;
use crate::model::cgroup_detail::Throttling;
use crate::model::pod_metrics::Family;
use crate::model::stats::{CgroupUsage, StallTime, Swap};
use std::collections::BTreeSet;

/// What dashboards ask for: the names of cAdvisor's set that the kubelet serves.
const EXPECTED: [&str; 56] = [
    "container_blkio_device_usage_total",
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_throttled_seconds_total",
    "container_cpu_system_seconds_total",
    "container_cpu_usage_seconds_total",
    "container_cpu_user_seconds_total",
    "container_file_descriptors",
    "container_fs_inodes_free",
    "container_fs_inodes_total",
    "container_fs_limit_bytes",
    "container_fs_reads_bytes_total",
    "container_fs_reads_total",
    "container_fs_usage_bytes",
    "container_fs_writes_bytes_total",
    "container_fs_writes_total",
    "container_hugetlb_max_usage_bytes",
    "container_hugetlb_usage_bytes",
    "container_last_seen",
    "container_memory_cache",
    "container_memory_failcnt",
    "container_memory_failures_total",
    "container_memory_kernel_usage",
    "container_memory_mapped_file",
    "container_memory_max_usage_bytes",
    "container_memory_rss",
    "container_memory_swap",
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_receive_errors_total",
    "container_network_receive_packets_dropped_total",
    "container_network_receive_packets_total",
    "container_network_transmit_bytes_total",
    "container_network_transmit_errors_total",
    "container_network_transmit_packets_dropped_total",
    "container_network_transmit_packets_total",
    "container_oom_events_total",
    "container_pressure_cpu_stalled_seconds_total",
    "container_pressure_cpu_waiting_seconds_total",
    "container_pressure_io_stalled_seconds_total",
    "container_pressure_io_waiting_seconds_total",
    "container_pressure_memory_stalled_seconds_total",
    "container_pressure_memory_waiting_seconds_total",
    "container_processes",
    "container_sockets",
    "container_spec_cpu_period",
    "container_spec_cpu_quota",
    "container_spec_cpu_shares",
    "container_spec_memory_limit_bytes",
    "container_spec_memory_reservation_limit_bytes",
    "container_spec_memory_swap_limit_bytes",
    "container_start_time_seconds",
    "container_threads",
    "container_threads_max",
    "container_ulimits_soft",
];

fn stall(full: u64, some: u64) -> Option<Stall> {
    let time = |seconds| StallTime {
        total_ns: seconds * SECOND + 999_999_999,
        averages: [0; 3],
    };
    Some(Stall {
        some: time(some),
        full: time(full),
    })
}

/// A cgroup of which everything is known.
fn whole() -> CgroupDetail {
    let traffic = |figure| {
        vec![
            ("Read".to_owned(), figure),
            ("Write".to_owned(), figure + 1),
        ]
    };
    CgroupDetail {
        usage: CgroupUsage {
            cpu_ns: 3_900_000_000,
            memory: Memory {
                usage: 100,
                working_set: 90,
                available: None,
                rss: 80,
                page_faults: 70,
                major_page_faults: 7,
            },
            swap: Some(Swap {
                usage: 60,
                available: None,
            }),
            pids: Some(5),
            oom_kills: 2,
            pressure: Pressure {
                cpu: stall(1, 2),
                memory: stall(3, 4),
                io: stall(5, 6),
            },
        },
        cpu: CpuTimes {
            user_ns: 2_500_000_000,
            system_ns: 1_400_000_000,
            throttling: Some(Throttling {
                periods: 30,
                throttled_periods: 3,
                throttled_ns: 4_000_000_000,
            }),
        },
        memory: MemoryParts {
            cache: 10,
            mapped_file: 11,
            kernel: 12,
            max_usage: Some(200),
            limit_hits: 13,
            own_page_faults: 14,
            own_major_page_faults: 15,
        },
        huge_pages: vec![HugePages {
            size: "2MB".into(),
            usage: 16,
            max_usage: Some(17),
        }],
        devices: vec![DeviceTraffic {
            major: 8,
            minor: 1,
            bytes: traffic(4096),
            operations: traffic(1),
        }],
        limits: CgroupLimits {
            cpu_period: Some(100_000),
            cpu_quota: Some(20_000),
            cpu_shares: Some(1024),
            memory: Some(1 << 26),
            memory_reservation: None,
            memory_and_swap: Some(1 << 27),
            pids: Some(1000),
        },
        processes: vec![1],
    }
}

fn held() -> ProcessUsage {
    ProcessUsage {
        processes: 2,
        descriptors: 9,
        sockets: 3,
        max_open_files: Some(1024),
    }
}

fn disk() -> DiskPart {
    DiskPart {
        device: "/dev/vda1".into(),
        limit_bytes: 1 << 30,
        inodes_total: 1000,
        inodes_free: 900,
        used_bytes: Some(12_288),
        measured_at: 77,
    }
}

fn network() -> NetworkUsage {
    NetworkUsage {
        timestamp: 1,
        default: InterfaceUsage {
            name: "eth0".into(),
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 5,
            tx_packets: 6,
            tx_errors: 7,
            tx_dropped: 8,
        },
        others: vec![InterfaceUsage {
            name: "net1".into(),
            ..InterfaceUsage::default()
        }],
    }
}

fn name(major: u32, minor: u32) -> String {
    format!("/dev/{major}-{minor}")
}

fn container() -> Vec<Sample> {
    let mut all = of_container(
        &whole(),
        &held(),
        (5 * SECOND as i64, 6 * SECOND as i64),
        &name,
    );
    all.extend(of_disk(&disk()));
    all
}

fn value(of: &[Sample], family: &Family, own: &[&str]) -> Option<u64> {
    let found = of.iter().find(|s| s.family == family && s.own == own);
    found.map(|sample| sample.value)
}

#[test]
fn the_list_of_families_is_cadvisors_and_each_is_explained() {
    let names: BTreeSet<_> = f::ALL.iter().map(|family| family.name).collect();
    assert_eq!(names, BTreeSet::from(EXPECTED));
    for family in f::ALL {
        assert!(family.help.ends_with('.'), "{}", family.name);
        let keys: BTreeSet<_> = family.keys().collect();
        assert_eq!(
            keys.len(),
            family.keys().count(),
            "{}: a key twice",
            family.name
        );
        // Two of cAdvisor's names say something else.
        let counts = match family.name {
            "container_memory_failcnt" => true,
            "container_fs_inodes_total" => false,
            name => name.ends_with("_total"),
        };
        let is_counter = family.behaviour == crate::model::pod_metrics::Behaviour::Counter;
        assert_eq!(is_counter, counts, "{}", family.name);
    }
}

#[test]
fn every_family_has_a_sample_where_all_is_known_with_a_value_for_each_key_and_none_is_twice() {
    let (container, network) = (container(), of_network(&network()));
    let all = || container.iter().chain(&network);
    let told: BTreeSet<_> = all().map(|sample| sample.family.name).collect();
    assert_eq!(told, BTreeSet::from(EXPECTED));
    for sample in all() {
        assert!(f::ALL.contains(&sample.family));
        assert_eq!(sample.own.len(), sample.family.own_keys.len(), "{sample:?}");
    }
    let unique: BTreeSet<_> = all().map(|s| (s.family.name, &s.own)).collect();
    assert_eq!(unique.len(), all().count());
}

#[test]
fn values_are_those_of_the_reading_in_whole_seconds_and_bytes() {
    let told = container();
    for (family, own, expected) in [
        (&f::CPU_USAGE, &["total"][..], 3),
        (&f::CPU_USER, &[], 2),
        (&f::CPU_SYSTEM, &[], 1),
        (&f::CFS_THROTTLED_SECONDS, &[], 4),
        (&f::MEMORY_WORKING_SET, &[], 90),
        (&f::MEMORY_SWAP, &[], 60),
        (&f::MEMORY_FAILURES, &["pgfault", "container"], 14),
        (&f::MEMORY_FAILURES, &["pgmajfault", "hierarchy"], 7),
        (&f::PRESSURE_CPU_STALLED, &[], 1),
        (&f::PRESSURE_CPU_WAITING, &[], 2),
        (&f::PRESSURE_MEMORY_STALLED, &[], 3),
        (&f::PRESSURE_IO_WAITING, &[], 6),
        (&f::FS_READS_BYTES, &["/dev/8-1"], 4096),
        (&f::FS_WRITES, &["/dev/8-1"], 2),
        (&f::BLKIO_USAGE, &["/dev/8-1", "8", "1", "Write"], 4097),
        (&f::HUGETLB_USAGE, &["2MB"], 16),
        (&f::FS_USAGE, &["/dev/vda1"], 12_288),
        (&f::PROCESSES, &[], 2),
        (&f::THREADS, &[], 5),
        (&f::THREADS_MAX, &[], 1000),
        (&f::SOCKETS, &[], 3),
        (&f::ULIMITS_SOFT, &["max_open_files"], 1024),
        (&f::SPEC_CPU_QUOTA, &[], 20_000),
        (&f::SPEC_MEMORY_LIMIT, &[], 1 << 26),
        (&f::SPEC_MEMORY_RESERVATION, &[], 0),
        (&f::START_TIME, &[], 5),
        (&f::LAST_SEEN, &[], 6),
    ] {
        assert_eq!(
            value(&told, family, own),
            Some(expected),
            "{} {own:?}",
            family.name
        );
    }
    let network = of_network(&network());
    for (family, expected) in [
        (&f::NETWORK_RECEIVE_BYTES, 1),
        (&f::NETWORK_RECEIVE_PACKETS, 2),
        (&f::NETWORK_RECEIVE_ERRORS, 3),
        (&f::NETWORK_RECEIVE_DROPPED, 4),
        (&f::NETWORK_TRANSMIT_BYTES, 5),
        (&f::NETWORK_TRANSMIT_PACKETS, 6),
        (&f::NETWORK_TRANSMIT_ERRORS, 7),
        (&f::NETWORK_TRANSMIT_DROPPED, 8),
    ] {
        assert_eq!(
            value(&network, family, &["eth0"]),
            Some(expected),
            "{}",
            family.name
        );
        assert_eq!(
            value(&network, family, &["net1"]),
            Some(0),
            "{}",
            family.name
        );
    }
}

#[test]
fn only_the_layers_size_is_as_old_as_its_measure() {
    let told = container();
    let old: Vec<_> = told.iter().filter(|s| s.timestamp != 0).collect();
    assert_eq!(old.len(), 1);
    assert_eq!((old[0].family, old[0].timestamp), (&f::FS_USAGE, 77));
}

#[test]
fn what_the_kernel_does_not_tell_has_no_sample_and_swap_has_a_zero() {
    let detail = CgroupDetail {
        cpu: CpuTimes {
            throttling: Some(Throttling::default()),
            ..CpuTimes::default()
        },
        ..CgroupDetail::default()
    };
    let mut told = of_container(&detail, &ProcessUsage::default(), (0, 0), &name);
    told.extend(of_disk(&DiskPart {
        used_bytes: None,
        ..disk()
    }));
    let has = |family: &Family| told.iter().any(|sample| sample.family == family);
    for absent in [
        &f::CFS_PERIODS, // without a quota
        &f::MEMORY_MAX_USAGE,
        &f::PRESSURE_CPU_WAITING,
        &f::HUGETLB_USAGE,
        &f::FS_READS,
        &f::FS_USAGE,
        &f::SPEC_CPU_QUOTA,
        &f::ULIMITS_SOFT,
        &f::THREADS,
    ] {
        assert!(!has(absent), "{}", absent.name);
    }
    assert_eq!(value(&told, &f::MEMORY_SWAP, &[]), Some(0));
    assert_eq!(value(&told, &f::THREADS_MAX, &[]), Some(0));
}

#[test]
fn a_pod_has_no_limits_of_open_files_of_its_own() {
    let told = of_pod(&whole(), &held(), (0, 0), &name);
    assert!(told.iter().all(|sample| sample.family != &f::ULIMITS_SOFT));
    assert_eq!(value(&told, &f::FILE_DESCRIPTORS, &[]), Some(9));
}
