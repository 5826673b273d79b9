//! Ending everything in a cgroup, and hearing of what the kernel killed for memory.

use super::{Cgroup, Directory, Version, write};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

/// How long processes may take to be gone: one in an uninterruptible sleep may take for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a v1 freezer may take. Short, since a shim's loop waits for it.
const FREEZING: Duration = Duration::from_millis(50);

/// How many processes are held at once: well below any limit on open files.
const HELD: usize = 256;

impl Cgroup {
    /// Kills every process of this cgroup and of those below it, and waits until none is left.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` with those that are left.
    pub fn kill_all(&self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(100);
        self.kill_now()?;
        while !self.processes()?.is_empty() {
            if Instant::now() > until {
                let left = self.processes()?;
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("processes {left:?} do not end"),
                ));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
            self.kill_now()?;
        }
        Ok(())
    }

    /// Kills every process of this cgroup and of those below it, once, and does not wait for their
    /// ends: a process that serves others meanwhile asks again.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill_now(&self) -> io::Result<()> {
        match (self.kill_unified()?, self.pure_v2()) {
            (true, Some(_)) => return Ok(()),
            // Who has left the unified hierarchy (a privileged container may) is hit one by one.
            (true, None) => return self.kill_each(),
            (false, _) => {}
        }
        match self.processes()?.is_empty() {
            true => Ok(()),
            false => self.freeze_and_kill(),
        }
    }

    /// One write kills all, whatever they fork meanwhile; false where the kernel cannot (before
    /// 5.14, or without the hierarchy).
    fn kill_unified(&self) -> io::Result<bool> {
        let Some(unified) = self.unified() else {
            return Ok(false);
        };
        match write(&unified.path.join("cgroup.kill"), "1") {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn kill_each(&self) -> io::Result<()> {
        let pids = self.processes()?;
        pids.chunks(HELD).try_for_each(|pids| self.kill_these(pids))
    }

    /// A pid may have become another's since it was read: who is still a member when a pidfd holds
    /// it is hit through that.
    fn kill_these(&self, pids: &[i32]) -> io::Result<()> {
        let open = |pid: &i32| (*pid, pidfd(*pid));
        let held: Vec<_> = pids.iter().map(open).collect();
        let members: BTreeSet<i32> = self.processes()?.into_iter().collect();
        for (_, pidfd) in held.into_iter().filter(|(pid, _)| members.contains(pid)) {
            match pidfd.and_then(|pidfd| pidfd_send_signal(pidfd, Signal::KILL)) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The hierarchy that knows all processes: the freezer, where one can stop them, else the
    /// unified one.
    pub(super) fn census(&self) -> Option<&Directory> {
        self.controller("freezer")
            .or_else(|| self.unified())
            .or_else(|| self.directories.first())
    }

    /// The ids of its processes and of those below it.
    ///
    /// # Errors
    /// What reading says.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let mut all = Vec::new();
        for path in self.census().map_or(Ok(Vec::new()), Directory::all)? {
            match std::fs::read_to_string(path.join("cgroup.procs")) {
                Ok(text) => all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Frozen processes cannot fork: all are hit.
    fn freeze_and_kill(&self) -> io::Result<()> {
        let freezer = self
            .controller("freezer")
            .filter(|directory| directory.version == Version::V1);
        if let Some(freezer) = freezer {
            freeze(freezer)?;
        }
        self.kill_each()?;
        match freezer {
            Some(freezer) => fine_when_gone(write(&freezer.path.join("freezer.state"), "THAWED")),
            None => Ok(()),
        }
    }

    /// How many processes of this cgroup the kernel has killed for memory so far.
    ///
    /// # Errors
    /// What reading says; a host without the controller counts none.
    pub fn memory_kills(&self) -> io::Result<u64> {
        let Some((directory, file)) = self.memory_file() else {
            return Ok(0);
        };
        let text = std::fs::read_to_string(directory.path.join(file))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0))
    }

    /// A descriptor that becomes readable when memory has run out: on v1 an eventfd, on v2 an
    /// inotify. It only says when to look at [`Cgroup::memory_kills`]. `None` on a host without
    /// the controller.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn oom_events(&self) -> io::Result<Option<OwnedFd>> {
        let Some((directory, file)) = self.memory_file() else {
            return Ok(None);
        };
        let path = directory.path.join(file);
        match directory.version {
            Version::V1 => v1_events(directory, &path).map(Some),
            Version::V2 => {
                let watch =
                    inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
                inotify::add_watch(&watch, &path, inotify::WatchFlags::MODIFY)?;
                Ok(Some(watch))
            }
        }
    }

    fn memory_file(&self) -> Option<(&Directory, &'static str)> {
        self.controller("memory")
            .map(|directory| match directory.version {
                Version::V1 => (directory, "memory.oom_control"),
                Version::V2 => (directory, "memory.events"),
            })
    }
}

fn pidfd(pid: i32) -> Result<OwnedFd, Errno> {
    pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())
}

/// Stops a v1 hierarchy; one that does not come to rest is killed as it is.
fn freeze(freezer: &Directory) -> io::Result<()> {
    let state = freezer.path.join("freezer.state");
    fine_when_gone(write(&state, "FROZEN"))?;
    let until = Instant::now() + FREEZING;
    while Instant::now() < until {
        match std::fs::read_to_string(&state) {
            Ok(now) if now.trim() == "FREEZING" => std::thread::sleep(Duration::from_micros(200)),
            Ok(_) => return Ok(()),
            Err(error) => return fine_when_gone(Err(error)),
        }
    }
    Ok(())
}

fn v1_events(directory: &Directory, path: &std::path::Path) -> io::Result<OwnedFd> {
    let events = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let line = format!("{} {}", events.as_raw_fd(), control.as_raw_fd());
    write(&directory.path.join("cgroup.event_control"), &line)?;
    Ok(events)
}

fn fine_when_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_gone(&error) => Ok(()),
        other => other,
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
