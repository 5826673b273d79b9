//! `mount_setattr`, the one call of the new mount interface that rustix lacks.

use super::result;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

/// `struct mount_attr` of `linux/mount.h`, its first version (32 bytes).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to be set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to be cleared before.
    pub clear: u64,
    /// One `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`; 0: unchanged.
    pub propagation: u64,
    /// The user namespace of an id-mapped mount.
    pub userns_fd: u64,
}

/// How far below its top a tree is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only the mount itself.
    Top,
    /// The mount and all below it.
    Recursive,
}

/// Lets the owners of a detached mount be seen through a user namespace.
///
/// # Errors
/// What the kernel says: `INVAL` where the file system does not allow it, `PERM` where it was done
/// already.
pub fn map_owners(mount: impl AsFd, depth: Depth, user: impl AsFd) -> Result<(), Errno> {
    let attr = MountAttr {
        set: MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into(),
        userns_fd: user.as_fd().as_raw_fd().unsigned_abs().into(),
        ..MountAttr::default()
    };
    set_attr(mount, depth, &attr)
}

/// Changes the mount that the descriptor is the root of, attached or not.
///
/// # Errors
/// What the kernel says; nothing was changed then.
pub fn set_attr(mount: impl AsFd, depth: Depth, attr: &MountAttr) -> Result<(), Errno> {
    let recursive = match depth {
        Depth::Top => 0,
        Depth::Recursive => libc::AT_RECURSIVE,
    };
    // SAFETY: the descriptor is borrowed for the call, the path is an empty C string, and `attr` is
    // a valid mount_attr of the size given, which the kernel only reads.
    result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(|_| ())
}
