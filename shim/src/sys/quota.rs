//! Project quotas: which project a directory belongs to, and what a project takes. The daemon asks, too.
//!
//! Invariant: nothing here sets a limit.

use super::result;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

/// `struct fsxattr` of `linux/fs.h` (28 bytes).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    rest: [u8; 8],
}

/// `FS_XFLAG_PROJINHERIT`: what is made below belongs to the same project.
const INHERITED: u32 = 0x200;
/// `FS_IOC_FSGETXATTR`.
const GET: Opcode = opcode::read::<Attributes>(b'X', 31);
/// `FS_IOC_FSSETXATTR`.
const SET: Opcode = opcode::write::<Attributes>(b'X', 32);
/// `QCMD(Q_GETQUOTA, PRJQUOTA)`.
const GET_PROJECT: libc::c_long = (0x80_0007 << 8) | 2;

/// `struct if_dqblk` of `linux/quota.h` (72 bytes).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Quota {
    block_limits: [u64; 2],
    space: u64,
    inode_limits: [u64; 2],
    inodes: u64,
    times: [u64; 2],
    valid: u32,
}

/// What all files of a project take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Bytes, also those that wait for their place on the disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// The project of an open file or directory; 0 where it has none.
///
/// # Errors
/// What the kernel says: `NOTTY` where the file system knows no projects.
pub fn project(file: impl AsFd) -> Result<u32, Errno> {
    attributes(file).map(|attributes| attributes.project)
}

/// Gives an open and empty directory to a project, and with it what will be made below.
///
/// # Errors
/// What the kernel says.
pub fn join(directory: impl AsFd, project: u32) -> Result<(), Errno> {
    let before = attributes(&directory)?;
    let joined = Attributes {
        project,
        flags: before.flags | INHERITED,
        ..before
    };
    // SAFETY: the opcode is that of a call which reads one `fsxattr`, and that is what it is given.
    let setter = unsafe { Setter::<SET, Attributes>::new(joined) };
    // SAFETY: as above; the descriptor is borrowed for the call.
    unsafe { ioctl(directory, setter) }
}

fn attributes(file: impl AsFd) -> Result<Attributes, Errno> {
    // SAFETY: the opcode is that of a call which fills in one `fsxattr`, all of whose bytes may be anything.
    let getter = unsafe { Getter::<GET, Attributes>::new() };
    // SAFETY: as above; the descriptor is borrowed for the call.
    unsafe { ioctl(file, getter) }
}

/// What a project takes on the file system of this open file.
///
/// # Errors
/// What the kernel says: `SRCH` where nobody counts, `NOENT` where nothing has ever been counted.
pub fn usage(file: impl AsFd, project: u32) -> Result<Use, Errno> {
    let mut quota = Quota::default();
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes one `if_dqblk` to a place that
    // has the size of one and that nothing else refers to.
    result(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_fd().as_raw_fd(),
            GET_PROJECT,
            project,
            std::ptr::from_mut(&mut quota),
        )
    })?;
    Ok(Use {
        bytes: quota.space,
        inodes: quota.inodes,
    })
}
