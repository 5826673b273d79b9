//! The places on which every container has something mounted, as a layer below those of its image:
//! where an image lacks one, it need not be made in each container's writable layer, which costs a
//! file on the disk each and, for those in `/etc`, a copy of that directory.
//!
//! Invariant: it is at the bottom, so it adds names and changes nothing that an image has.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::error::{Error, io_error};

/// Directories.
const DIRECTORIES: [&str; 5] = ["", "dev", "etc", "proc", "sys"];
/// Empty files.
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// The layer, with what was missing of it; `None` where the disk refuses it, as a full one does, which
/// is told.
pub(super) fn made(layer: PathBuf) -> Option<PathBuf> {
    match make(&layer) {
        Ok(()) => Some(layer),
        Err(error) => {
            let error = crate::error::chain(&error);
            tracing::warn!(error, "each container gets its own places to mount on");
            None
        }
    }
}

fn make(layer: &Path) -> Result<(), Error> {
    for path in DIRECTORIES.map(|name| layer.join(name)) {
        let made = unless_there(DirBuilder::new().mode(0o755).create(&path));
        let made = made.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)));
        made.map_err(io_error("make", &path))?;
    }
    for path in FILES.map(|name| layer.join(name)) {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let made = unless_there(options.open(&path).map(drop));
        let made = made.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)));
        made.map_err(io_error("make", &path))?;
    }
    Ok(())
}

fn unless_there(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_of_it_is_made_again_as_all_may_read_it() {
        let home = tempfile::tempdir().unwrap();
        let layer = home.path().join("points");
        make(&layer).unwrap();
        fs::remove_file(layer.join("etc/hosts")).unwrap();
        fs::remove_dir(layer.join("sys")).unwrap();
        make(&layer).unwrap();
        let mode =
            |name: &str| fs::metadata(layer.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(DIRECTORIES.map(mode), [0o755; 5]);
        assert_eq!(FILES.map(mode), [0o644; 3]);
        assert_eq!(made(layer.clone()), Some(layer));
    }

    #[test]
    fn a_disk_that_refuses_it_is_used_without() {
        let home = tempfile::tempdir().unwrap();
        let layer = home.path().join("points");
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join("etc"), "in the way").unwrap();
        assert_eq!(made(layer), None);
    }
}
