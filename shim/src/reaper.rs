//! Waits for children: the container's init by its pidfd, and whoever else falls to a subreaper.
//!
//! Invariant: the end of the init is never lost to the wait for the others.

use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid};

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its exit code; 128 + the signal's number where a signal ended it.
    pub code: i32,
    /// That signal.
    pub signal: Option<i32>,
}

/// The end of the child behind this pidfd, once it has ended; it is then reaped. One that is no
/// child of ours any more ended unseen, with code 255.
#[must_use]
pub fn end_of(pidfd: &OwnedFd) -> Option<End> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let Ok(status) = waitid(WaitId::PidFd(pidfd.as_fd()), options) else {
        return Some(End {
            code: 255,
            signal: None,
        });
    };
    let status = status?;
    Some(ended(status.exit_status(), status.terminating_signal()))
}

/// Reaps all children that have ended. The end of `init`, if it was among them.
#[must_use]
pub fn reap_all(init: Option<i32>) -> Option<End> {
    let mut found = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(pid.as_raw_pid()) == init {
            found = Some(ended(status.exit_status(), status.terminating_signal()));
        }
    }
    found
}

fn ended(code: Option<i32>, signal: Option<i32>) -> End {
    End {
        code: code.or(signal.map(|signal| 128 + signal)).unwrap_or(255),
        signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    use std::process::Command;

    #[expect(clippy::zombie_processes, reason = "the reaper is what waits here")]
    fn child(script: &str) -> OwnedFd {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    }

    fn wait(pidfd: &OwnedFd) -> End {
        let mut fds = [rustix::event::PollFd::new(
            pidfd,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut fds, None).unwrap();
        end_of(pidfd).unwrap()
    }

    #[test]
    fn codes_and_signals_are_told_apart() {
        assert_eq!(
            wait(&child("exit 3")),
            End {
                code: 3,
                signal: None
            }
        );
        let sleeper = child("exec sleep 60");
        assert_eq!(end_of(&sleeper), None);
        pidfd_send_signal(&sleeper, Signal::KILL).unwrap();
        assert_eq!(
            wait(&sleeper),
            End {
                code: 137,
                signal: Some(9)
            }
        );
    }

    #[test]
    fn a_child_that_someone_else_has_reaped_ended_unseen() {
        let gone = child("exit 0");
        wait(&gone);
        assert_eq!(
            end_of(&gone),
            Some(End {
                code: 255,
                signal: None
            })
        );
    }
}
