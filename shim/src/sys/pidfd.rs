//! Signals to a process by its descriptor, the real-time ones too, for which rustix has no name.

use super::result;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;

/// Sends a signal by its number to the process that a pidfd names.
///
/// # Errors
/// What `pidfd_send_signal` says: `ESRCH` where the process has gone, `EINVAL` for no signal.
pub fn send_signal(pidfd: impl AsFd, number: i32) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed for the call, and a null siginfo is allowed: the kernel
    // then fills in what kill(2) would have sent.
    let returned = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, info, 0) };
    result(returned).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn a_real_time_signal_arrives_and_what_is_none_is_refused() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert_eq!(send_signal(&pidfd, 65), Err(Errno::INVAL));
        send_signal(&pidfd, 37).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(37));
        assert_eq!(send_signal(&pidfd, 37), Err(Errno::SRCH));
    }
}
