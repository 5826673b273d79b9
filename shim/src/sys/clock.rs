//! The clock of another process: how long it has had a processor.

use super::result;
use rustix::io::Errno;

/// `CPUCLOCK_SCHED` of a whole process, in a clock's number (`linux/posix-timers.h`).
const OF_PROCESS: i32 = 2;

/// How long a process has had a processor, in nanoseconds.
///
/// # Errors
/// `EINVAL`: there is no such process.
pub fn worked(pid: i32) -> Result<i64, Errno> {
    let clock = (!pid << 3) | OF_PROCESS;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place is a timespec of this frame, which the kernel fills in during the call.
    let returned = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) };
    result(returned)?;
    Ok(time.tv_sec * 1_000_000_000 + time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_at_work_from_outside() {
        let own = rustix::process::getpid().as_raw_pid();
        let before = worked(own).unwrap();
        let mut sum = 0u64;
        while worked(own).unwrap() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert_eq!(worked(i32::MAX >> 3), Err(Errno::INVAL));
    }
}
