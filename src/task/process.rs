//! Starting the programs of `corten-shim`, and naming processes so that a reused pid is not
//! mistaken for another.

use super::TaskError;
use super::program::Program;
use super::socket::PacketSocket;
use corten_shim::stat::start_time;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsStr;
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tokio::sync::oneshot;

/// A program of `corten-shim` that was started. Dropping it leaves the program alone.
pub struct Spawned {
    /// The daemon's end of the socket that is the program's stdin.
    pub socket: PacketSocket,
    /// The means to end it.
    pub kill: Kill,
}

/// Can kill a program that was started.
pub struct Kill(oneshot::Sender<()>);

impl Kill {
    /// Kills the program.
    pub fn kill(self) {
        // Where nobody listens it has ended already.
        let _ = self.0.send(());
    }

    /// The program has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_closed()
    }

    /// Kills the program unless it ends by itself before this time.
    pub fn kill_after(mut self, patience: Duration) {
        // Without an event loop the daemon is ending, and its descriptors with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let ended = self.0.closed();
            if tokio::time::timeout(patience, ended).await.is_err() {
                self.kill();
            }
        });
    }
}

/// Starts `corten-shim VERB …` with one end of a socket as its stdin, and gives the other.
///
/// The child is reaped in the background. It is not killed with the daemon.
pub fn spawn<S: AsRef<OsStr>>(
    program: &Program,
    verb: &'static str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Spawned, TaskError> {
    let failed = |source| TaskError::Spawn {
        program: program.path().to_owned(),
        source,
    };
    let (socket, theirs) =
        PacketSocket::pair().map_err(|source| TaskError::Socket { verb, source })?;
    let child = program
        .command()
        .arg(verb)
        .args(arguments)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (kill, killed) = oneshot::channel();
    tokio::spawn(reap(child, verb, killed));
    Ok(Spawned {
        socket,
        kill: Kill(kill),
    })
}

async fn reap(mut child: Child, verb: &'static str, killed: oneshot::Receiver<()>) {
    let asked = async {
        if killed.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = asked => child.kill().await.map(|()| std::process::ExitStatus::default()),
    };
    if let Err(error) = ended {
        tracing::warn!(%error, verb, "a shim could not be reaped");
    }
}

/// A descriptor of the process that has this pid and start time; `None` when it has ended.
pub fn open(pid: i32, started: u64) -> io::Result<Option<OwnedFd>> {
    let Some(number) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        other => other?,
    };
    // Read after the descriptor is held: if the time is right now, the descriptor is right too.
    match start_time(pid) {
        Ok(time) if time == started => Ok(Some(pidfd)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The signal of this number, where it has a name: the real-time ones have none here.
pub fn named(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

/// Sends a signal; a process that has ended is fine.
pub fn signal(pidfd: &OwnedFd, signal: Signal) -> Result<(), TaskError> {
    match pidfd_send_signal(pidfd, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other.map_err(|errno| TaskError::Signal {
            signal: signal.as_raw(),
            source: errno.into(),
        }),
    }
}

/// Sends a signal to the process that has this pid and start time; one that has ended is fine.
///
/// # Errors
/// Where the signal has no name, or the kernel refuses.
pub fn signal_by_pid((pid, started): (i32, u64), number: i32) -> Result<(), TaskError> {
    let failed = |source| TaskError::Signal {
        signal: number,
        source,
    };
    let unnamed = || failed(rustix::io::Errno::INVAL.into());
    let named = named(number).ok_or_else(unnamed)?;
    open(pid, started)
        .map_err(failed)?
        .map_or(Ok(()), |pidfd| signal(&pidfd, named))
}

/// Waits until a process has ended.
///
/// # Errors
/// Where the event loop cannot watch it.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that do not own their descriptor; an OwnedFd does"
    )]
    let watched = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    watched.readable().await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[tokio::test]
    async fn a_program_that_does_not_end_by_itself_is_killed() {
        let sleep = Program::plain(Path::new("/bin/sleep"));
        let Spawned { socket, kill } = spawn(&sleep, "1000", std::iter::empty::<&str>()).unwrap();
        kill.kill_after(Duration::from_millis(10));
        // The other end is its stdin, and nobody else's.
        let said = socket.receive::<()>();
        let said = tokio::time::timeout(Duration::from_secs(30), said).await;
        assert!(said.expect("it ends").unwrap().is_none());
    }

    #[test]
    fn a_process_is_found_by_pid_and_start_time_only() {
        let pid = std::process::id().cast_signed();
        let started = start_time(pid).unwrap();
        assert!(open(pid, started).unwrap().is_some());
        assert!(open(pid, started + 1).unwrap().is_none());
    }
}
