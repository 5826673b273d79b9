//! What a process gives up once the container's program runs: a shim for its container's life, an exec for
//! its process's. Neither ever runs another program, joins or mounts anything again.
//!
//! The capabilities that are kept let it kill, write its log and records, and remove its cgroup; no_new_privs
//! and an empty bounding set let it get no more. The filter allows the calls that are left; any other one is
//! ENOSYS, as on a kernel that does not have it, so that who knows an older call takes that.
//!
//! Invariant: no call fails for a process that only gives up. Were one to (a nested node's may lack
//! CAP_SETPCAP), it goes on as privileged as it was a moment ago.

use crate::init::process::drop_bounding;
use crate::sys::seccomp::{Instruction, set_filter};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What is still done: kill (`KILL`), write logs and records and remove a cgroup wherever they are
/// (`DAC_OVERRIDE`).
const NEEDED: CapabilitySet = CapabilitySet::KILL.union(CapabilitySet::DAC_OVERRIDE);

/// Gives up what only the making of a container or of a process needs.
pub fn confine() {
    let have = rustix::thread::capabilities(None).map_or(NEEDED, |sets| sets.permitted);
    let keep = have & NEEDED;
    let sets = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    let _ = drop_bounding(0);
    let _ = rustix::thread::set_capabilities(None, sets);
    let _ = rustix::thread::set_no_new_privs(true);
    let _ = set_filter(&FILTER, SPEC_ALLOW);
}

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: the filter is no reason to slow the processor down.
const SPEC_ALLOW: u32 = 1 << 2;
/// `AUDIT_ARCH_*` of `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

// Operations of classic BPF: load a word of `struct seccomp_data`, compare, answer.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANSWER: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | libc::ENOSYS.unsigned_abs();

/// A number of a call, and what is answered from it on.
type Bound = (u32, u32);

/// How many bounds there are at most: each number begins and ends a range.
const MOST: usize = 2 * ALLOWED.len() + 1;
const BOUNDS: ([Bound; MOST], usize) = bounds(sorted());
/// The program, made when this is compiled: a balanced tree, which the kernel tries out for each of its calls
/// at the load.
static FILTER: [Instruction; 4 + 2 * BOUNDS.1 - 1] = filter();

const fn at(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "numbers of calls are small"
)]
const fn number(call: libc::c_long) -> u32 {
    call.unsigned_abs() as u32
}

const fn sorted() -> [u32; ALLOWED.len()] {
    let mut numbers = [0; ALLOWED.len()];
    let mut count = 0;
    while count < ALLOWED.len() {
        let mut place = count;
        while place > 0 && numbers[place - 1] > number(ALLOWED[count]) {
            numbers[place] = numbers[place - 1];
            place -= 1;
        }
        numbers[place] = number(ALLOWED[count]);
        count += 1;
    }
    numbers
}

/// Before the first number nothing is allowed; neighbours are one range.
const fn bounds(numbers: [u32; ALLOWED.len()]) -> ([Bound; MOST], usize) {
    let (mut bounds, mut count, mut next) = ([(0, REFUSE); MOST], 1, 0);
    while next < numbers.len() {
        if count > 1 && bounds[count - 1].0 == numbers[next] {
            bounds[count - 1].0 += 1;
        } else {
            bounds[count] = (numbers[next], ALLOW);
            bounds[count + 1] = (numbers[next] + 1, REFUSE);
            count += 2;
        }
        next += 1;
    }
    (bounds, count)
}

const fn filter() -> [Instruction; 4 + 2 * BOUNDS.1 - 1] {
    let mut program = [at(ANSWER, REFUSE, 0, 0); 4 + 2 * BOUNDS.1 - 1];
    program[0] = at(LOAD, 4, 0, 0);
    program[1] = at(EQUAL, ARCHITECTURE, 1, 0);
    program[3] = at(LOAD, 0, 0, 0);
    tree(&mut program, 4, 0, BOUNDS.1);
    program
}

#[expect(clippy::cast_possible_truncation, reason = "asserted")]
const fn jump(over: usize) -> u8 {
    assert!(over < 256, "a jump is no longer");
    over as u8
}

/// The bounds from `low` to below `high`, written from `here` on; where they end.
const fn tree(program: &mut [Instruction], here: usize, low: usize, high: usize) -> usize {
    if high - low == 1 {
        program[here] = at(ANSWER, BOUNDS.0[low].1, 0, 0);
        return here + 1;
    }
    let middle = usize::midpoint(low, high);
    let end = tree(program, here + 1, low, middle);
    program[here] = at(AT_LEAST, BOUNDS.0[middle].0, jump(end - here - 1), 0);
    tree(program, end, middle, high)
}

/// The calls of the shim's own code after Start, and those that the allocator and the kernel's own
/// returns make.
const ALLOWED: &[libc::c_long] = &[
    // Descriptors.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    // Files: the log, records, the cgroup.
    libc::SYS_chdir,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    // News of memory, of children, of large messages.
    libc::SYS_eventfd2,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_memfd_create,
    libc::SYS_signalfd4,
    // Those who come by the listening socket.
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Processes: the writer, the container's.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Signals, time, memory.
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, as the kernel runs it.
    fn answer(number: u32, architecture: u32) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = FILTER[at];
            at += 1;
            match code {
                LOAD => word = if k == 0 { number } else { architecture },
                ANSWER => return k,
                EQUAL => at += usize::from(if word == k { jt } else { jf }),
                AT_LEAST => at += usize::from(if word >= k { jt } else { jf }),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_else() {
        for number in (0..1000).chain([u32::MAX, 0x4000_0000]) {
            let listed = ALLOWED.contains(&libc::c_long::from(number));
            let wanted = if listed { ALLOW } else { REFUSE };
            assert_eq!(answer(number, ARCHITECTURE), wanted, "{number}");
        }
        assert_eq!(answer(0, ARCHITECTURE + 1), REFUSE);
    }
}
