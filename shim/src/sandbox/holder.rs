//! The process that holds a pod's shared PID namespace, or its scope, or both: its start and its end.

use crate::api::{Failure, FailureKind, PinRequest, ProcessName};
use crate::failure::At;
use crate::packet;
use crate::parent::pair;
use crate::sys::clone::{Process, clone3, flags};
use crate::sys::exec::{Pointers, execve};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How long a killed holder may take to end: it waits for all processes of its namespace.
const DYING: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// A holder.
#[derive(Debug)]
pub struct Holder {
    /// Its name.
    pub name: ProcessName,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// Where it says when it is what it is to be.
    pub report: OwnedFd,
}

/// Starts the holder that a pod is to have, in the namespaces of this process but for its mounts; where
/// its containers share a PID namespace, as PID 1 of that. It is born in the v2 cgroup of this
/// directory, where one is given.
///
/// # Errors
/// When it cannot be started.
pub fn start(
    request: &PinRequest,
    home: Option<BorrowedFd<'_>>,
) -> Result<Option<Holder>, Failure> {
    match (&request.pins.pid, request.scoped) {
        (Some(_), _) => begin(flags::NEWPID, home).map(Some),
        (None, true) => begin(0, home).map(Some),
        (None, false) => Ok(None),
    }
}

fn begin(flags: u64, home: Option<BorrowedFd<'_>>) -> Result<Holder, Failure> {
    let step = || "start the pod's holder".to_owned();
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .at(FailureKind::System, step)?;
    let arguments = [c"corten-shim".to_owned(), c"pause".to_owned()];
    let (arguments, environment) = (Pointers::new(&arguments), Pointers::new(&[]));
    let (report, inner) = pair()?;
    let child = clone3(flags, home, || {
        become_holder(&inner, &null, &arguments, &environment)
    });
    drop(inner);
    let Process { pid, pidfd } = child.at(FailureKind::System, step)?;
    let start_time = crate::stat::start_time(pid).at(FailureKind::System, step)?;
    Ok(Holder {
        name: ProcessName { pid, start_time },
        pidfd,
        report,
    })
}

impl Holder {
    /// Waits until it has given up all that those who join its namespace might take from it.
    ///
    /// # Errors
    /// Why it could not.
    pub fn wait_until_ready(&self) -> Result<(), Failure> {
        let step = || "hear from the pod's holder".to_owned();
        let report = packet::receive::<Result<(), Failure>>(&self.report);
        match report.at(FailureKind::System, step)? {
            Some(report) => report.message?,
            None => return Err(Failure::invalid(step(), "it ended without a word")),
        }
        // It closes the socket right after its report: then it holds nothing at all.
        let closed = rustix::io::retry_on_intr(|| rustix::io::read(&self.report, &mut [0; 1]));
        closed.map(drop).at(FailureKind::System, step)
    }
}

/// In the child: nobody hears of a failure but by the end of the process.
fn become_holder(
    report: &OwnedFd,
    null: &File,
    arguments: &Pointers<'_>,
    environment: &Pointers<'_>,
) -> i32 {
    // What a terminal tells a daemon that was started by hand is not for the pods.
    let _ = rustix::process::setsid();
    let silent = rustix::process::chdir("/")
        .and_then(|()| rustix::stdio::dup2_stdin(report))
        .and_then(|()| rustix::stdio::dup2_stdout(null))
        .and_then(|()| rustix::stdio::dup2_stderr(null));
    if silent.is_ok() {
        let _ = execve(c"/proc/self/exe", arguments, environment);
    }
    1
}

/// Kills a holder and waits for its end. One that has gone, or whose pid is another's now, is
/// passed over.
///
/// # Errors
/// When it does not end.
pub fn end(name: ProcessName) -> Result<(), Failure> {
    let step = || format!("end the holder, process {}", name.pid);
    let pidfd = match open(name.pid) {
        Err(Errno::SRCH) => return Ok(()),
        other => other.at(FailureKind::System, step)?,
    };
    // Read while the pidfd is held: the time is that of the process that the pidfd names.
    if crate::stat::start_time(name.pid).ok() != Some(name.start_time) {
        return Ok(());
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(()),
        other => other.at(FailureKind::System, step)?,
    }
    wait(&pidfd).at(FailureKind::System, step)
}

/// PID 1 of the PID namespace that is pinned at this path.
#[must_use]
pub fn find(pin: &Path) -> Option<ProcessName> {
    let namespace = std::fs::metadata(pin).ok()?;
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find_map(|pid| {
        let own = std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
        let inside = (own.dev(), own.ino()) == (namespace.dev(), namespace.ino());
        (inside && is_first(pid)?).then_some(())?;
        let start_time = crate::stat::start_time(pid).ok()?;
        Some(ProcessName { pid, start_time })
    })
}

/// Whether a process is PID 1 of the innermost namespace that it is in.
fn is_first(pid: i32) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(pids.split_ascii_whitespace().last() == Some("1"))
}

fn wait(pidfd: &OwnedFd) -> Result<(), Errno> {
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&DYING)) {
            Err(Errno::INTR) => {}
            Ok(0) => return Err(Errno::TIMEDOUT),
            other => return other.map(|_| ()),
        }
    }
}

fn open(pid: i32) -> Result<OwnedFd, Errno> {
    pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())
}
