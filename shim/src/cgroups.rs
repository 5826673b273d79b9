//! How a process of Corten's own gets into the cgroup of shims.
//!
//! On v1 it writes `0` to `tasks`; on v2 it is born there: any write to a `cgroup.procs` waits for
//! an RCU grace period of 8 ms. So the v2 tree beside v1 controllers is left alone: it counts
//! nothing of a shim's, and the wait would be most of what a container's creation takes. A shim
//! enters while the stage of its container is at work, when it would only wait.
//! Controllers whose tree lacks the cgroup are left alone too.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroup file systems are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The directory that a process is to be cloned into: on a host that has only v2.
///
/// # Errors
/// When it is not there.
pub fn birthplace(cgroup: &Path) -> Result<Option<OwnedFd>, Failure> {
    let root = Path::new(ROOT);
    if !is_v2(root) {
        return Ok(None);
    }
    let path = root.join(inside(cgroup));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty())
        .map(Some)
        .at(FailureKind::System, || {
            format!("open the cgroup {}", path.display())
        })
}

/// Moves the calling process into this cgroup, in each v1 hierarchy where it exists.
///
/// # Errors
/// When it exists nowhere, or the kernel refuses the move.
pub fn enter(cgroup: &Path) -> Result<(), Failure> {
    let step = || format!("enter the cgroup {}", cgroup.display());
    let mut entered = 0;
    for home in homes(Path::new(ROOT), cgroup) {
        match join(&home) {
            Ok(()) => entered += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                return Err(Failure::system(step(), errno));
            }
        }
    }
    match entered {
        0 => Err(Failure::invalid(
            step(),
            "no hierarchy has it: the daemon makes it first",
        )),
        _ => Ok(()),
    }
}

/// The directories that the cgroup may have, one in each v1 hierarchy.
fn homes(root: &Path, cgroup: &Path) -> Vec<PathBuf> {
    let Ok(hierarchies) = fs::read_dir(root) else {
        return Vec::new();
    };
    hierarchies
        .flatten()
        // `cpu` and its like may be links to `cpu,cpuacct`.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|hierarchy| !is_v2(hierarchy))
        .map(|hierarchy| hierarchy.join(inside(cgroup)))
        .collect()
}

fn inside(cgroup: &Path) -> &Path {
    cgroup.strip_prefix("/").unwrap_or(cgroup)
}

/// Each directory of a v2 tree has this file.
fn is_v2(directory: &Path) -> bool {
    directory.join("cgroup.controllers").exists()
}

fn join(home: &Path) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(home.join("tasks"))
        .and_then(|mut file| io::Write::write_all(&mut file, b"0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_v1_hierarchy_is_a_home() {
        let root = tempfile::tempdir().unwrap();
        for name in ["cpu,cpuacct", "memory", "unified"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("cpu,cpuacct", root.path().join("cpu")).unwrap();
        fs::write(root.path().join("unified/cgroup.controllers"), "").unwrap();
        let mut found = homes(root.path(), Path::new("/corten/shims"));
        found.sort();
        let want = ["cpu,cpuacct", "memory"];
        assert_eq!(
            found,
            want.map(|name| root.path().join(name).join("corten/shims"))
        );
    }

    #[test]
    fn a_home_is_joined_by_tasks() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("tasks"), "").unwrap();
        fs::write(home.path().join("cgroup.procs"), "").unwrap();
        join(home.path()).unwrap();
        assert_eq!(fs::read(home.path().join("tasks")).unwrap(), b"0");
        assert_eq!(fs::read(home.path().join("cgroup.procs")).unwrap(), b"");
    }

    #[test]
    fn a_cgroup_that_exists_nowhere_is_refused() {
        enter(Path::new("/corten-has-no-such/cgroup")).unwrap_err();
    }
}
