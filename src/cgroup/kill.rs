//! The last resort for a container whose shim was lost: kill whatever its cgroup holds.
//!
//! Version 2 does it in one write. Version 1 needs a loop: freeze, so that nothing forks away;
//! kill by pidfd, and only what is in the cgroup before and after the pidfd was opened, so that a
//! pid that was given to another process in between is never hit; thaw, so that the signal is
//! obeyed.

use super::CgroupError;
use super::remove::children;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

const ROUNDS: u32 = 100;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(20);

/// Kills all processes of these directories, which are one cgroup in all hierarchies.
pub fn all(cgroup: &str, directories: &[PathBuf]) -> Result<(), CgroupError> {
    for directory in directories {
        write_if_there(&directory.join("cgroup.kill"), "1")?;
    }
    for _ in 0..ROUNDS {
        if round(directories)?.is_empty() {
            return Ok(());
        }
        sleep(BETWEEN_ROUNDS);
    }
    Err(CgroupError::Alive {
        cgroup: cgroup.to_owned(),
        pids: union(directories)?.into_iter().collect(),
    })
}

/// Kills what is there once; tells what was there.
fn round(directories: &[PathBuf]) -> Result<BTreeSet<i32>, CgroupError> {
    let seen = union(directories)?;
    if seen.is_empty() {
        return Ok(seen);
    }
    set_freezer(directories, "FROZEN")?;
    let killed = kill_members(directories);
    set_freezer(directories, "THAWED")?;
    killed?;
    Ok(seen)
}

fn kill_members(directories: &[PathBuf]) -> Result<(), CgroupError> {
    let handles: Vec<(i32, OwnedFd)> = union(directories)?
        .into_iter()
        .filter_map(|pid| Some((pid, open(pid)?)))
        .collect();
    let still_there = union(directories)?;
    for (pid, handle) in handles {
        if still_there.contains(&pid) {
            // Its end meanwhile is what was wanted.
            let _ended = pidfd_send_signal(&handle, Signal::KILL);
        }
    }
    Ok(())
}

/// A handle of a process; `None` where it has ended, or where it is this one.
fn open(pid: i32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid).filter(|pid| *pid != getpid())?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn set_freezer(directories: &[PathBuf], state: &str) -> Result<(), CgroupError> {
    directories
        .iter()
        .try_for_each(|directory| write_if_there(&directory.join("freezer.state"), state))
}

fn write_if_there(file: &Path, text: &str) -> Result<(), CgroupError> {
    match fs::OpenOptions::new().write(true).open(file) {
        Ok(mut open) => match io::Write::write_all(&mut open, text.as_bytes()) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other.map_err(CgroupError::io("write", file)),
        },
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(CgroupError::io("open", file)(error)),
    }
}

fn union(directories: &[PathBuf]) -> Result<BTreeSet<i32>, CgroupError> {
    let mut all = BTreeSet::new();
    for directory in directories {
        all.extend(processes(directory)?);
    }
    Ok(all)
}

/// The processes of a cgroup and of those below it; none where it is gone.
pub fn processes(directory: &Path) -> Result<BTreeSet<i32>, CgroupError> {
    let file = directory.join("cgroup.procs");
    let mut found = match fs::read_to_string(&file) {
        Ok(text) => text.lines().filter_map(|line| line.parse().ok()).collect(),
        Err(error) if is_gone(&error) => BTreeSet::new(),
        Err(error) => return Err(CgroupError::io("read", file)(error)),
    };
    for child in children(directory).map_err(CgroupError::io("list", directory))? {
        found.extend(processes(&child)?);
    }
    Ok(found)
}

/// The cgroup was removed: before the file was opened, or while it was read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV)
}

const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> Child {
        Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn every_member_is_killed_and_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("below");
        fs::create_dir(&below).unwrap();
        let (mut inside, mut deeper, mut outside) = (sleeper(), sleeper(), sleeper());
        let me = std::process::id();
        fs::write(
            root.path().join("cgroup.procs"),
            format!("{}\n{me}\n", inside.id()),
        )
        .unwrap();
        fs::write(below.join("cgroup.procs"), format!("{}\n", deeper.id())).unwrap();
        let seen = round(&[root.path().to_owned()]).unwrap();
        assert_eq!(seen.len(), 3);
        for child in [&mut inside, &mut deeper] {
            use std::os::unix::process::ExitStatusExt as _;
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
        assert!(
            outside.try_wait().unwrap().is_none(),
            "a stranger was killed"
        );
        outside.kill().unwrap();
        outside.wait().unwrap();
    }

    #[test]
    fn an_absent_cgroup_has_nobody_to_kill() {
        all("/gone", &[PathBuf::from("/nonexistent/cgroup")]).unwrap();
    }
}
