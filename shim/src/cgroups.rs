//! How a process of Corten's own gets into the cgroup of shims.
//!
//! On v1 it writes `0` to `tasks`: any write to a `cgroup.procs` waits for an RCU grace period of
//! 8 ms. So the v2 tree beside v1 controllers is left alone: it counts nothing of a shim's, and the
//! wait would be most of what a container's creation takes. Controllers whose tree lacks the cgroup
//! are left alone too.

use crate::api::Failure;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroup file systems are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Moves the calling process into this cgroup, in each hierarchy where it exists.
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

/// The directories that the cgroup may have: one below a v2 root, or one in each v1 hierarchy.
fn homes(root: &Path, cgroup: &Path) -> Vec<PathBuf> {
    let inside = cgroup.strip_prefix("/").unwrap_or(cgroup);
    if is_v2(root) {
        return vec![root.join(inside)];
    }
    let Ok(hierarchies) = fs::read_dir(root) else {
        return Vec::new();
    };
    hierarchies
        .flatten()
        // `cpu` and its like may be links to `cpu,cpuacct`.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|hierarchy| !is_v2(hierarchy))
        .map(|hierarchy| hierarchy.join(inside))
        .collect()
}

/// Each directory of a v2 tree has this file.
fn is_v2(directory: &Path) -> bool {
    directory.join("cgroup.controllers").exists()
}

fn join(home: &Path) -> io::Result<()> {
    let file = home.join(if is_v2(home) { "cgroup.procs" } else { "tasks" });
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| io::Write::write_all(&mut file, b"0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v2_root_has_one_home_and_a_v1_root_one_a_hierarchy() {
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
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        let found = homes(root.path(), Path::new("/corten/shims"));
        assert_eq!(found, [root.path().join("corten/shims")]);
    }

    #[test]
    fn a_v1_home_is_joined_by_tasks_and_a_v2_home_by_procs() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("tasks"), "").unwrap();
        fs::write(home.path().join("cgroup.procs"), "").unwrap();
        join(home.path()).unwrap();
        assert_eq!(fs::read(home.path().join("tasks")).unwrap(), b"0");
        assert_eq!(fs::read(home.path().join("cgroup.procs")).unwrap(), b"");
        fs::write(home.path().join("cgroup.controllers"), "").unwrap();
        join(home.path()).unwrap();
        assert_eq!(fs::read(home.path().join("cgroup.procs")).unwrap(), b"0");
    }

    #[test]
    fn a_cgroup_that_exists_nowhere_is_refused() {
        enter(Path::new("/corten-has-no-such/cgroup")).unwrap_err();
    }
}
