//! The program `corten-shim`, as the daemon starts it: through a mount on which nobody can write it.
//!
//! A process that is on its way into a container can be seen there while it still runs the host's file
//! (CVE-2019-5736). `shim/src/sandbox/sealed.rs` has the guard; here it is asked for, once.
//!
//! Invariant: what is started is the file that was there when the daemon started, also when a new version
//! has taken its place: a daemon and its shims are of one version.

use super::sandbox;
use rustix::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Where it is, and how it is started.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    sealed: Option<OwnedFd>,
    bare: Option<OwnedFd>,
}

impl Program {
    /// By its path.
    #[must_use]
    pub fn plain(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            sealed: None,
            bare: None,
        }
    }

    /// Where nobody can write it, with a mount namespace for containers to begin from. A node that
    /// cannot have the one or the other does without, and is told.
    pub async fn sealed(path: &Path) -> Self {
        let (sealed, bare) = tokio::join!(sandbox::seal(path), sandbox::bare(path));
        let sealed = sealed.inspect_err(|error| {
            let error = crate::error::chain(error);
            tracing::warn!(error, "a container that may trace could reach corten-shim");
        });
        let bare = bare.inspect_err(|error| {
            let error = crate::error::chain(error);
            tracing::warn!(
                error,
                "containers are made more slowly the more is mounted here"
            );
        });
        Self {
            path: path.to_owned(),
            sealed: sealed.ok(),
            bare: bare.ok(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mount namespace that containers begin from, by a path that names it for as long as this is there.
    #[must_use]
    pub fn bare(&self) -> Option<PathBuf> {
        let bare = self.bare.as_ref()?.as_raw_fd();
        Some(format!("/proc/{}/fd/{bare}", std::process::id()).into())
    }

    /// What starts it, under its own name. The link is followed in the new process, before the
    /// descriptor is closed there.
    #[must_use]
    pub fn command(&self) -> Command {
        match &self.sealed {
            None => Command::new(&self.path),
            Some(sealed) => {
                let mut command = Command::new(format!("/proc/self/fd/{}", sealed.as_raw_fd()));
                command.arg0(&self.path);
                command
            }
        }
    }
}
