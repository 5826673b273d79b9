//! The cgroup adapter on this node's real hierarchies: a process in a cgroup of its own is counted,
//! killed, and leaves nothing behind. Needs root.

use corten::cgroup::{CgroupError, Cgroups as _, HostCgroups};
use corten::model::hierarchies::Hierarchies;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A cgroup of this test alone, removed at its end.
struct Own {
    cgroups: HostCgroups,
    path: String,
}

impl Own {
    fn new(name: &str) -> Self {
        let cgroups = HostCgroups::discover().expect("this node has cgroups");
        let path = format!("/corten-test-{}-{name}", std::process::id());
        cgroups.ensure(&path).expect("make the test's cgroup");
        Self { cgroups, path }
    }

    fn directories(&self) -> Vec<PathBuf> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let hierarchies = Hierarchies::parse(&mountinfo);
        let below = self.path.trim_start_matches('/');
        hierarchies
            .controlled()
            .map(|root| root.join(below))
            .collect()
    }

    /// A shell in the cgroup that burns some CPU and waits for two children.
    fn spawn(&self) -> Child {
        let script = r#"for d; do echo 0 >"$d/cgroup.procs"; done
            i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
            sleep 600 & sleep 600 & echo ready; wait"#;
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(self.directories())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut ready = [0; 6];
        let out = child.stdout.as_mut().expect("its stdout is a pipe");
        std::io::Read::read_exact(out, &mut ready).expect("it says that it is ready");
        child
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let ended = self.cgroups.kill_all(&self.path);
        let removed = self.cgroups.remove(&self.path);
        if !std::thread::panicking() {
            ended.and(removed).expect("the test's cgroup goes");
        }
    }
}

#[test]
fn root_a_process_is_counted_killed_and_its_cgroup_removed() {
    let own = Own::new("life");
    let mut child = own.spawn();
    let start = Instant::now();
    let usage = own.cgroups.usage(&own.path).unwrap();
    println!("one reading took {:?}", start.elapsed());
    assert!(usage.cpu_ns > 0 && usage.memory.usage > 0, "{usage:?}");
    assert_eq!(usage.pids, Some(3), "the shell and its two children");
    assert_eq!(usage.memory.available, None, "no limit was set");

    let busy = own.cgroups.remove(&own.path).unwrap_err();
    assert!(
        matches!(&busy, CgroupError::Alive { pids, .. } if !pids.is_empty()),
        "{busy}"
    );

    own.cgroups.kill_all(&own.path).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    own.cgroups.remove(&own.path).unwrap();
    let left: Vec<_> = own
        .directories()
        .into_iter()
        .filter(|d| d.exists())
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    let gone = own.cgroups.usage(&own.path).unwrap_err();
    assert!(matches!(gone, CgroupError::Missing(_)), "{gone}");
}

#[test]
fn root_a_reading_is_cheap() {
    let own = Own::new("cheap");
    let mut child = own.spawn();
    let mut times: Vec<_> = (0..100)
        .map(|_| {
            let start = Instant::now();
            own.cgroups.usage(&own.path).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("a reading takes {:?} (median of 100)", times[50]);
    own.cgroups.kill_all(&own.path).unwrap();
    child.wait().unwrap();
    // A reading should take 150 µs; a busy machine is given ten times that.
    assert!(times[10].as_micros() < 1500, "{:?}", times[10]);
}
