//! The runtime's own program, where nobody can write it.
//!
//! A process that is on its way into a container still runs the host's file, and who may trace it there
//! has it, through `/proc/PID/exe`: to be written, or given another mode or owner (CVE-2019-5736). So all
//! of these programs are started from a read-only mount of their own directory that has no place
//! anywhere: who has it by such a link can neither write through it nor change the mount. It is made once
//! for each daemon and costs no copy; the pages stay those of the file.
//!
//! Invariant: what is given out is the very file that the path names.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::filesystem;
use crate::sys::mount::Depth;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fstat, openat, stat};
use std::path::Path;

/// Names the program through such a mount. The directory is mounted, not the file, so that the link
/// says a name.
///
/// # Errors
/// What the kernel says; [`FailureKind::Invalid`] where something is mounted over the file.
pub fn program(path: &Path) -> Result<OwnedFd, Failure> {
    let step = || format!("seal {}", path.display());
    let nameless = || Failure::invalid(step(), "it is no path of a file");
    let (directory, name) = (path.parent(), path.file_name());
    let (directory, name) = (
        directory.and_then(Path::to_str).ok_or_else(nameless)?,
        name.ok_or_else(nameless)?,
    );
    let mount = filesystem::clone_path(directory, Depth::Top).at(FailureKind::Mount, step)?;
    filesystem::read_only(&mount, Depth::Top).at(FailureKind::Mount, step)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let sealed = openat(&mount, name, flags, Mode::empty()).at(FailureKind::Mount, step)?;
    let (ours, named) = (fstat(&sealed), stat(path));
    let (ours, named) = (
        ours.at(FailureKind::System, step)?,
        named.at(FailureKind::System, step)?,
    );
    if (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino) {
        return Err(Failure::invalid(step(), "it is a mount or a link"));
    }
    // With the last descriptor of the mount itself goes its namespace: nobody can ask for a change of it.
    drop(mount);
    Ok(sealed)
}
