//! `/run/netns`, as `ip netns` keeps it: a shared mount, so that a namespace pinned there by one
//! program is seen, and is gone, in the mount namespaces of all others (agents mount it).

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use std::path::Path;

/// The places that the field agrees on; elsewhere nobody else looks.
const FIELD_STANDARD: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// Makes the directory of a pin a shared mount, where it is the field's and is not one yet.
///
/// # Errors
/// What the kernel says.
pub fn share_if_field_standard(pin: &Path) -> Result<(), Failure> {
    match pin.parent() {
        Some(directory)
            if FIELD_STANDARD
                .iter()
                .any(|&one| Path::new(one) == directory) =>
        {
            share(directory).at(FailureKind::Mount, || {
                format!("share {}", directory.display())
            })
        }
        _ => Ok(()),
    }
}

fn share(directory: &Path) -> Result<(), std::io::Error> {
    std::fs::create_dir_all(directory)?;
    if is_shared_now(directory)? {
        return Ok(());
    }
    // Two who find that it is no mount yet would mount it twice. `ip netns` takes the same lock.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    if !is_shared_now(directory)? {
        rustix::mount::mount_bind_recursive(directory, directory)?;
        is_shared_now(directory)?;
    }
    Ok(())
}

/// Makes a mount shared; whether there is a mount to be so.
fn is_shared_now(directory: &Path) -> Result<bool, Errno> {
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match rustix::mount::mount_change(directory, shared) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}
