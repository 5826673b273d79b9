//! Plugins of an earlier life: a caller that was killed leaves the plugin that it ran to init, and
//! an ADD that goes on would take an address after the DEL that was to give it back. A DEL that goes
//! on does what the next one would do, and is left alone.
//!
//! They are known by their environment, which a plugin hands on to what it starts. The environment
//! of a process is what it was started with and only root may read another's.
//!
//! A plugin that works is let come to its end: one that is killed half way leaves what its own DEL may
//! not find (iptables chains without the link that leads to them).
//!
//! Invariant: a process is killed through a descriptor that was opened before its environment was
//! looked at, so never another one that got its number.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::task::spawn_blocking;

/// An ADD takes a tenth of this on a busy node.
const PATIENCE: Duration = Duration::from_secs(2);
/// What one may have started while it was looked for is found by the next look.
const LOOKS: usize = 20;
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Waits a while for the ADDs for this container that are under way, kills those that do not end with
/// all that they started, and gives back how many were killed. For recovery, before the DEL of an attachment that may
/// be half made: no operation on it may be under way in this process.
pub async fn end_strays(container_id: &str) -> usize {
    let mark = format!("CNI_CONTAINERID={container_id}").into_bytes();
    spawn_blocking(move || end_all(&mark))
        .await
        .unwrap_or_default()
}

fn end_all(mark: &[u8]) -> usize {
    let patient = Instant::now() + PATIENCE;
    strays(mark).iter().for_each(|stray| wait(stray, patient));
    let mut ended = 0;
    for _ in 0..LOOKS {
        let found = strays(mark);
        if found.is_empty() {
            break;
        }
        ended += found.iter().filter(|stray| end(stray)).count();
    }
    ended
}

/// Until it has ended, or the time has come.
fn wait(stray: &OwnedFd, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or(WAIT);
    let _ = poll(&mut [PollFd::new(stray, PollFlags::IN)], Some(&left));
}

/// True where it ended; one that is stuck in the kernel is found again.
fn end(stray: &OwnedFd) -> bool {
    let _ = pidfd_send_signal(stray, Signal::KILL);
    let mut exit = [PollFd::new(stray, PollFlags::IN)];
    poll(&mut exit, Some(&WAIT)).is_ok_and(|ready| ready == 1)
}

fn strays(mark: &[u8]) -> Vec<OwnedFd> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| Pid::from_raw(name.to_str()?.parse().ok()?));
    pids.filter(|pid| *pid != getpid())
        .filter_map(|pid| stray(pid, mark))
        .collect()
}

fn stray(pid: Pid, mark: &[u8]) -> Option<OwnedFd> {
    if !is_marked(pid, mark) {
        return None;
    }
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    is_marked(pid, mark).then_some(process)
}

fn is_marked(pid: Pid, mark: &[u8]) -> bool {
    let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
    let environment = fs::read(path).unwrap_or_default();
    let mut variables = environment.split(|byte| *byte == 0);
    let adds = variables
        .clone()
        .any(|variable| variable == b"CNI_COMMAND=ADD");
    adds && variables.any(|variable| variable == mark)
}
