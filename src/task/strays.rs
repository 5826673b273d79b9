//! Helpers of an earlier life: a daemon that was killed leaves those that it ran to init. A
//! `corten-shim sandbox` that goes on would pin a namespace after it was to be taken away; a
//! `corten-shim exec` ends when its client has gone, unless it hangs.
//!
//! They are known by their program, their verb, and that no daemon is their parent: another daemon of
//! this node, with a root of its own, keeps its helpers, and a helper the processes that it makes.
//!
//! Invariant: a process is killed through a descriptor that was opened before it was looked at, so
//! never another one that got its number.

use super::process::ended;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// After SIGKILL.
const DEATH: Duration = Duration::from_secs(1);
/// What a daemon is called.
const DAEMON: &str = "corten\n";

/// Waits so long for helpers to end by themselves, and kills those that do not.
pub async fn end(strays: Vec<OwnedFd>, patience: Duration) {
    let each = strays.iter().map(|stray| async move {
        if tokio::time::timeout(patience, over(stray)).await.is_err() {
            // Where it is refused the wait tells.
            let _ = pidfd_send_signal(stray, Signal::KILL);
            let _ = tokio::time::timeout(DEATH, over(stray)).await;
        }
    });
    futures::future::join_all(each).await;
}

/// One that cannot be watched is killed.
async fn over(stray: &OwnedFd) {
    let watched = stray.try_clone();
    let seen = match watched {
        Ok(stray) => ended(stray).await,
        Err(error) => Err(error),
    };
    if seen.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The helpers that run this program, have this verb and lack a daemon.
pub fn find(program: &Path, verb: &str) -> Vec<OwnedFd> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| {
        let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        is_stray(pid, program, verb).then_some(process)
    })
    .collect()
}

fn is_stray(pid: i32, program: &Path, verb: &str) -> bool {
    has_verb(pid, verb) && runs(pid, program) && !is_kept(pid, program)
}

fn has_verb(pid: i32, verb: &str) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes())
}

/// By the file, since a path means something else inside of a container.
fn runs(pid: i32, program: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let own = file(Path::new(&format!("/proc/{pid}/exe")));
    own.is_some() && own == file(program)
}

/// By a daemon, or by another helper, which looks after it.
fn is_kept(pid: i32, program: &Path) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    let Some(parent) = parent.and_then(|parent| parent.parse().ok()) else {
        return false;
    };
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    name == DAEMON || runs(parent, program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A program of this test's own, which does nothing for a long time.
    fn helper(program: &Path) -> std::process::Child {
        let mut command = Command::new(program);
        command.arg("1000").stdin(Stdio::null()).spawn().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_without_a_daemon_is_ended_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        for copy in [&ours, &theirs] {
            fs::copy("/bin/sleep", copy).unwrap();
        }
        let (mut stray, mut other) = (helper(&ours), helper(&theirs));
        assert!(find(&ours, "900").is_empty());
        let strays = find(&ours, "1000");
        assert_eq!(strays.len(), 1);
        end(strays, Duration::from_secs(1)).await;
        assert!(!stray.wait().unwrap().success());
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
