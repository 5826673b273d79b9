//! `sched_setattr`, `sched_setaffinity`, `ioprio_set`, `set_mempolicy` and `personality`, all for the
//! calling thread.

use super::result;
use rustix::io::Errno;

/// How many numbers a [`Set`] holds.
pub const BITS: usize = 1024;
const WORDS: usize = BITS / 64;
/// `IOPRIO_WHO_PROCESS`.
const PROCESS: libc::c_long = 1;

/// `struct sched_attr` of `linux/sched/types.h`, its first version (48 bytes), behind its size.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Filled in when it is set.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// Of the real-time policies.
    pub priority: u32,
    /// Nanoseconds, of the deadline policy.
    pub runtime: u64,
    /// As above.
    pub deadline: u64,
    /// As above.
    pub period: u64,
}

/// CPUs, or nodes of memory, by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set([u64; WORDS]);

impl Set {
    /// Adds a number below [`BITS`].
    pub fn add(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    /// Its bits, the lowest first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }
}

/// Sets the scheduler.
///
/// # Errors
/// What the kernel says.
pub fn set_scheduler(wanted: &Attributes) -> Result<(), Errno> {
    let size = u32::try_from(size_of::<Attributes>()).unwrap_or(0);
    let attributes = Attributes { size, ..*wanted };
    // SAFETY: `attributes` is a valid sched_attr of the size that it says, which the kernel only reads.
    result(unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            0,
            std::ptr::from_ref(&attributes),
            0,
        )
    })
    .map(drop)
}

/// Sets the CPUs.
///
/// # Errors
/// What the kernel says.
pub fn set_affinity(cpus: &Set) -> Result<(), Errno> {
    let words = cpus.words();
    let size = size_of_val(words);
    // SAFETY: the kernel reads as many bytes as the slice has.
    result(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, words.as_ptr()) }).map(drop)
}

/// Sets the priority at disks.
///
/// # Errors
/// What the kernel says.
pub fn set_io_priority(priority: u16) -> Result<(), Errno> {
    let priority = libc::c_long::from(priority);
    // SAFETY: the call takes three numbers and touches no memory of this process.
    result(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, priority) }).map(drop)
}

/// Sets where memory is taken from.
///
/// # Errors
/// What the kernel says.
pub fn set_memory_policy(mode: u32, nodes: &Set) -> Result<(), Errno> {
    let (words, length) = match nodes.is_empty() {
        true => (std::ptr::null(), 0),
        // One more than there are: the kernel does not look at the last one.
        false => (nodes.words().as_ptr(), BITS + 1),
    };
    let mode = libc::c_long::from(mode.cast_signed());
    // SAFETY: the kernel reads BITS bits of the set, or nothing where the length is 0.
    result(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, words, length) }).map(drop)
}

/// Sets the personality.
///
/// # Errors
/// What the kernel says.
pub fn set_personality(personality: u32) -> Result<(), Errno> {
    let personality = libc::c_ulong::from(personality);
    // SAFETY: the call takes a number and touches no memory of this process.
    result(unsafe { libc::personality(personality) }.into()).map(drop)
}
