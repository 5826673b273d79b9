//! Masked and read-only paths, kernel parameters, and the working directory.
//!
//! Invariant: what hides a path is proven to be what it is taken for. The `/dev/null` that goes
//! over a file is the character device 1:3, looked at through the very descriptor that is cloned;
//! a kernel parameter is written only to a file of a real procfs.

use super::{Builder, is_absent};
use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::filesystem;
use crate::root::{Root, kind};
use crate::sys::mount::Depth;
use rustix::fd::OwnedFd;
use rustix::fs::{
    FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, makedev, openat2,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags as Attr;

/// Makes a path and all below it read-only; an absent one is passed over.
///
/// # Errors
/// [`FailureKind::Mount`].
pub fn make_read_only(root: &Root, path: &str) -> Result<(), Failure> {
    let step = || format!("make {path} read-only");
    let place = match root.find(path) {
        Err(error) if is_absent(error) => return Ok(()),
        other => other.at(FailureKind::Mount, step)?,
    };
    let tree = filesystem::clone_of(&place, Depth::Recursive).at(FailureKind::Mount, step)?;
    filesystem::read_only(&tree, Depth::Recursive).at(FailureKind::Mount, step)?;
    filesystem::attach(&tree, &place).at(FailureKind::Mount, step)
}

/// Makes a mount read-only that was written to until now.
///
/// # Errors
/// [`FailureKind::Mount`].
pub fn freeze(root: &Root, path: &str) -> Result<(), Failure> {
    let step = || format!("make {path} read-only");
    let place = root.find(path).at(FailureKind::Mount, step)?;
    filesystem::read_only(&place, Depth::Top).at(FailureKind::Mount, step)
}

impl Builder<'_> {
    /// Hides a path: a directory under an empty one, a file under `/dev/null`.
    pub(super) fn mask(&mut self, path: &str) -> Result<(), Failure> {
        let step = || format!("mask {path}");
        let place = match self.root.find(path) {
            Err(error) if is_absent(error) => return Ok(()),
            other => other.at(FailureKind::Mount, step)?,
        };
        let cover = match kind(&place).at(FailureKind::Mount, step)? {
            FileType::Directory => self.empty_directory()?,
            _ => filesystem::clone_of(self.null()?, Depth::Top).at(FailureKind::Mount, step)?,
        };
        filesystem::attach(&cover, &place).at(FailureKind::Mount, step)
    }

    /// The container's `/dev/null`, proven to be the null device when it was opened.
    fn null(&mut self) -> Result<&OwnedFd, Failure> {
        let null = match self.null.take() {
            Some(null) => null,
            None => null(self.root)?,
        };
        Ok(self.null.insert(null))
    }

    /// One empty file system serves all masked directories: cloning it costs half of a new one. The
    /// first one is the mount itself, because kernels before 6.15 clone only what is attached.
    fn empty_directory(&mut self) -> Result<OwnedFd, Failure> {
        let step = || "clone an empty directory".to_owned();
        if let Some(empty) = &self.empty {
            return filesystem::clone_of(empty, Depth::Top).at(FailureKind::Mount, step);
        }
        let data = [("ro", None), ("nr_inodes", Some("1"))];
        let made = filesystem::make("tmpfs", "tmpfs", &data, Attr::MOUNT_ATTR_RDONLY)?;
        self.empty = Some(made.try_clone().at(FailureKind::System, step)?);
        Ok(made)
    }
}

/// The container's `/dev/null`, proven to be the null device.
fn null(root: &Root) -> Result<OwnedFd, Failure> {
    let step = || "open /dev/null of the container".to_owned();
    let null = root.find("/dev/null").at(FailureKind::Mount, step)?;
    prove_null(&null).map_err(|failure| Failure {
        step: step(),
        ..failure
    })?;
    Ok(null)
}

/// Refuses a descriptor that is not of the null device.
///
/// # Errors
/// [`FailureKind::Invalid`].
pub fn prove_null(null: &OwnedFd) -> Result<(), Failure> {
    let step = || "look at /dev/null".to_owned();
    let stat = fstat(null).at(FailureKind::System, step)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_device && stat.st_rdev == makedev(1, 3) {
        return Ok(());
    }
    Err(Failure::invalid(step(), "it is not the null device"))
}

/// Writes a kernel parameter. Called before the root changes: this `/proc` is the host's, and
/// shows the parameters of the namespaces that this process is in.
///
/// # Errors
/// [`FailureKind::System`].
pub fn write_sysctl(name: &str, value: &str) -> Result<(), Failure> {
    let step = || format!("set the sysctl {name} to {value}");
    let sys = rustix::fs::open("/proc/sys", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(FailureKind::System, step)?;
    if fstatfs(&sys).at(FailureKind::System, step)?.f_type != PROC_SUPER_MAGIC {
        return Err(Failure::invalid(step(), "/proc is no procfs"));
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat2(&sys, name, flags, Mode::empty(), resolve).at(FailureKind::System, step)?;
    rustix::io::write(&file, value.as_bytes())
        .map(|_| ())
        .at(FailureKind::System, step)
}

/// Makes the working directory where the image lacks it, as images with a WORKDIR expect. Whether the
/// container's user may be there is seen when it goes there.
///
/// # Errors
/// [`FailureKind::Start`]: it is no directory, cannot be made, or is behind a link of procfs, which may lead
/// outside.
pub fn make_working_directory(root: &Root, path: &str) -> Result<(), Failure> {
    let made = match root.find(path) {
        Ok(found) if kind(&found) == Ok(FileType::Directory) => Ok(()),
        Ok(_) => Err(Errno::NOTDIR),
        Err(error) if is_absent(error) => root
            .make_directory(path, Mode::from_raw_mode(0o755))
            .map(drop),
        // The container's user may see what its root does not.
        Err(Errno::ACCESS) => Ok(()),
        Err(error) => Err(error),
    };
    made.at(FailureKind::Start, || {
        format!("change to the working directory {path}")
    })
}
