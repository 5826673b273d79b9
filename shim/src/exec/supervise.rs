//! Stands beside a process until it or its client has ended, or its time is up.
//!
//! One `poll` over the client's socket and the pidfd; no thread, no signal handler.

use super::join::Joined;
use crate::api::{ExecControl, ExecReply, ExecRequest};
use crate::packet;
use crate::parent::Stdio;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use rustix::termios::{Winsize, tcsetwinsize};
use std::time::{Duration, Instant};

/// How long a process whose client has gone may take to end by itself: it has been told, by the end
/// of its input or of its terminal.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why the watch is over.
enum End {
    /// The process has ended.
    Exited,
    /// Its time is up.
    TimeOut,
    /// Its client has gone.
    Abandoned,
}

/// Watches until the end, and tells the client.
pub fn supervise(socket: BorrowedFd<'_>, joined: Joined, request: &ExecRequest) {
    let timeout = Duration::from_millis(request.timeout_ms);
    let deadline = (!timeout.is_zero()).then(|| Instant::now() + timeout);
    let Joined {
        process,
        stdio,
        nested,
    } = joined;
    let terminal = terminal(stdio);
    let end = watch(socket, &process.pidfd, terminal.as_ref(), deadline);
    if matches!(end, End::Abandoned) && (request.stdin || terminal.is_some()) {
        drop(terminal);
        let mut fds = [PollFd::new(&process.pidfd, PollFlags::IN)];
        // Whatever comes of it: now it is ended.
        let _ = poll(
            &mut fds,
            time_left(Some(Instant::now() + FAREWELL)).as_ref(),
        );
    }
    if !matches!(end, End::Exited) {
        nested.end();
    }
    let code = reap(&process.pidfd);
    let timed_out = matches!(end, End::TimeOut);
    if !matches!(end, End::Abandoned) {
        // A client that went away meanwhile wants to know no more.
        let _ = packet::send(socket, &ExecReply::Exited { code, timed_out }, &[]);
    }
    nested.leave();
}

/// The terminal, to be resized. Pipes are the client's alone: held here as well, one would never
/// end.
fn terminal(stdio: Stdio) -> Option<OwnedFd> {
    match stdio {
        Stdio::Terminal { master } => Some(master),
        Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            drop((stdin, stdout, stderr));
            None
        }
    }
}

fn watch(
    socket: BorrowedFd<'_>,
    pidfd: &OwnedFd,
    terminal: Option<&OwnedFd>,
    deadline: Option<Instant>,
) -> End {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(socket, PollFlags::IN),
            PollFd::new(pidfd, PollFlags::IN),
        ];
        match poll(&mut fds, time_left(deadline).as_ref()) {
            Ok(0) => return End::TimeOut,
            Err(Errno::INTR) => continue,
            Err(_) => return End::Abandoned,
            Ok(_) => {}
        }
        if !fds[1].revents().is_empty() {
            return End::Exited;
        }
        if !fds[0].revents().is_empty() && !obey(socket, pidfd, terminal) {
            return End::Abandoned;
        }
    }
}

/// `None` waits for ever; a deadline that has passed waits no more.
fn time_left(deadline: Option<Instant>) -> Option<Timespec> {
    let left = deadline?.saturating_duration_since(Instant::now());
    Timespec::try_from(left).ok()
}

/// Does what the client says; false when it has gone.
fn obey(socket: BorrowedFd<'_>, pidfd: &OwnedFd, terminal: Option<&OwnedFd>) -> bool {
    let control = match packet::receive::<ExecControl>(socket) {
        Ok(Some(received)) => received.message,
        Ok(None) | Err(_) => return false,
    };
    match control {
        ExecControl::Resize { width, height } => {
            if let Some(terminal) = terminal {
                let size = Winsize {
                    ws_row: height,
                    ws_col: width,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                // A terminal whose process has just ended has no size.
                let _ = tcsetwinsize(terminal, size);
            }
        }
        ExecControl::Signal { signal } => {
            // A process that has just ended needs none.
            let _ = crate::sys::pidfd::send_signal(pidfd, signal);
        }
    }
    true
}

fn reap(pidfd: &OwnedFd) -> i32 {
    let waited =
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
    waited.ok().flatten().map_or(255, |status| code(&status))
}

fn code(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}
