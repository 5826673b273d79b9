//! Images that a container sees: read-only mounts of an image's layers, or of one path in it.
//!
//! ```text
//! layers ──overlay──▶ detached mount ──sub path, inside its root──▶ detached clone of that
//! ```
//! A kernel that does not clone from a detached mount (before 6.15) gets the mount attached first,
//! in a mount namespace that only the stage has.
//!
//! Invariant: nothing is mounted on the host, and no link of the image leads out of the image.

use super::rootfs;
use crate::api::{Failure, FailureKind, ImageVolume};
use crate::failure::At;
use crate::filesystem;
use crate::root::{Root, kind};
use crate::sys::mount::Depth;
use crate::userns::UserNamespace;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Makes the mount of an image that the container is to see, its owners mapped for the container's
/// user namespace.
///
/// # Errors
/// [`FailureKind::ImageVolume`], with the path in the image where that is what is wrong.
pub fn make(volume: &ImageVolume, own: Option<&UserNamespace>) -> Result<OwnedFd, Failure> {
    made(volume, own).map_err(|failure| Failure {
        kind: FailureKind::ImageVolume,
        ..failure
    })
}

fn made(volume: &ImageVolume, own: Option<&UserNamespace>) -> Result<OwnedFd, Failure> {
    let [only] = volume.mounts.as_slice() else {
        return Err(Failure::invalid(
            "mount an image",
            "volumes.json does not list exactly one mount for it",
        ));
    };
    let image = rootfs::make_one(only, &volume.path, own)?;
    if volume.sub_path.is_empty() {
        return Ok(image);
    }
    let image = Root::new(image);
    match filesystem::clone_of(find(&image, &volume.sub_path)?, Depth::Top) {
        Err(Errno::INVAL) => attached(&image, volume),
        other => other.at(FailureKind::Mount, || step(volume)),
    }
}

/// What is shown is a directory or a plain file: a device or a socket of an image is none of it.
fn find(image: &Root, sub_path: &str) -> Result<OwnedFd, Failure> {
    let step = || format!("find {sub_path} in the image");
    let found = image.find(sub_path).at(FailureKind::Mount, step)?;
    match kind(&found).at(FailureKind::Mount, step)? {
        FileType::Directory | FileType::RegularFile => Ok(found),
        other => Err(Failure::invalid(step(), format!("it is a {other:?}"))),
    }
}

fn attached(image: &Root, volume: &ImageVolume) -> Result<OwnedFd, Failure> {
    let step = || step(volume);
    let open = || rustix::fs::open(&volume.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    rootfs::leave_the_hosts_namespace().at(FailureKind::Mount, step)?;
    let place = open().at(FailureKind::Mount, step)?;
    filesystem::attach(image, place).at(FailureKind::Mount, step)?;
    let image = Root::new(open().at(FailureKind::Mount, step)?);
    filesystem::clone_of(find(&image, &volume.sub_path)?, Depth::Top).at(FailureKind::Mount, step)
}

fn step(volume: &ImageVolume) -> String {
    format!("show {} of the image", volume.sub_path)
}
