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
}

impl Program {
    /// By its path.
    #[must_use]
    pub fn plain(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            sealed: None,
        }
    }

    /// Where nobody can write it. A node that cannot have that has it by its path, and is told.
    pub async fn sealed(path: &Path) -> Self {
        let sealed = sandbox::seal(path).await.inspect_err(|error| {
            let error = crate::error::chain(error);
            tracing::warn!(error, "a container that may trace could reach corten-shim");
        });
        Self {
            path: path.to_owned(),
            sealed: sealed.ok(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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
