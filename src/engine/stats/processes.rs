//! What processes hold, as `/proc` tells it (proc_pid_fd(5), proc_pid_limits(5)).
//!
//! A process that ends while it is looked at holds nothing any more.

use crate::model::cgroup_detail::ProcessUsage;
use std::fs;
use std::path::{Path, PathBuf};

/// How many descriptors of a container are looked at: it has as many as it likes, and all pods wait.
const MOST_DESCRIPTORS: usize = 10_000;

/// What these processes hold, of their descriptors no more than are looked at; `init` is the one whose limits are told, if it is among them.
pub fn of(pids: &[i32], init: i32) -> ProcessUsage {
    let mut usage = ProcessUsage {
        processes: u64::try_from(pids.len()).unwrap_or(0),
        ..ProcessUsage::default()
    };
    let open = |pid: &i32| fs::read_dir(process(*pid).join("fd"));
    let all = pids.iter().flat_map(open).flatten().flatten();
    for descriptor in all.take(MOST_DESCRIPTORS) {
        usage.descriptors += 1;
        usage.sockets += u64::from(is_socket(&descriptor.path()));
    }
    // The number of one that has ended may have become another process's.
    if pids.contains(&init) {
        let limits = fs::read_to_string(process(init).join("limits"));
        usage.max_open_files = limits.ok().and_then(|text| max_open_files(&text));
    }
    usage
}

fn process(pid: i32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn is_socket(descriptor: &Path) -> bool {
    let target = fs::read_link(descriptor);
    target.is_ok_and(|target| {
        target
            .as_os_str()
            .as_encoded_bytes()
            .starts_with(b"socket:")
    })
}

/// The soft limit: the first number of the line. `None` where it says `unlimited`.
fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max processes             63190                63190                processes\n\
                    Max open files            1024                 20000                files\n";
        assert_eq!(max_open_files(text), Some(1024));
        assert_eq!(
            max_open_files("Max open files unlimited unlimited files\n"),
            None
        );
        assert_eq!(max_open_files(""), None);
    }

    #[test]
    fn this_process_has_descriptors_and_one_more_socket_when_one_is_opened() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&listener)
        );
        assert!(is_socket(Path::new(&own)));
        let file = fs::File::open("/dev/null").unwrap();
        let other = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        assert!(!is_socket(Path::new(&other)));
        let usage = of(&[pid], pid);
        assert_eq!(usage.processes, 1);
        assert!(usage.sockets >= 1 && usage.descriptors > usage.sockets);
        assert!(usage.max_open_files.is_some_and(|limit| limit > 0));
    }

    #[test]
    fn the_limits_of_a_process_that_is_not_among_them_are_not_told() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(of(&[], pid), ProcessUsage::default());
        let gone = of(&[i32::MAX], pid);
        assert_eq!((gone.descriptors, gone.max_open_files), (0, None));
    }
}
