//! The port to the node's cgroups, as far as the daemon itself needs them: what a cgroup uses, its
//! end, the homes of the daemon and of the shims, and the limits of a pod whose cgroup is Corten's
//! own. Limits and device rules of containers are written by their shims, whose code writes those
//! of pods as well. Scopes, which are systemd's to make, are the port [`Scopes`].
//!
//! The crate cgroups-rs was weighed and serves none of this. It reads a cgroup through a dozen
//! boxed controllers (every file of each, most of which nobody asks for), knows a v1 layout or a
//! v2 one but no hybrid whose controllers are spread over both, neither `cgroup.kill` nor pidfds,
//! and cannot take down a tree. What remains is eight small files, read here by name.
//!
//! Invariant: no descriptor outlives a call (a node has 20,000 of them, and nine hierarchies times
//! 1,000 containers), and no path leads to the root of a hierarchy or out of it.

mod detail;
#[cfg(test)]
pub mod fakes;
mod files;
mod host;
mod kill;
mod remove;
mod scope;
mod systemd;
mod traffic;
mod usage;

pub use host::HostCgroups;
pub use scope::{ScopeError, ScopeOrder, Scopes};
pub use systemd::{SOCKET as SYSTEMD_SOCKET, SystemdScopes};

use crate::error::{Error, Kind};
use crate::model::cgroup_detail::CgroupDetail;
use crate::model::stats::CgroupUsage;
use corten_shim::api::{Failure, FailureKind};
use std::io;
use std::path::PathBuf;

/// The node's cgroups. A cgroup is named by its path below every hierarchy's root, beginning with
/// a slash. All of it is synchronous; [`Cgroups::usage`] takes some tens of microseconds, the
/// others may wait and belong on a thread for blocking work.
pub trait Cgroups: Send + Sync {
    /// What the cgroup and those below it use now.
    ///
    /// # Errors
    /// [`CgroupError::Missing`] where it is not there.
    fn usage(&self, cgroup: &str) -> Result<CgroupUsage, CgroupError>;

    /// All that the kernel accounts for the cgroup, and the limits in force. Reads some thirty files,
    /// which takes a few tenths of a millisecond.
    ///
    /// # Errors
    /// [`CgroupError::Missing`] where it is not there.
    fn detail(&self, cgroup: &str) -> Result<CgroupDetail, CgroupError>;

    /// Makes the cgroup in every hierarchy; one that is there is left as it is.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn ensure(&self, cgroup: &str) -> Result<(), CgroupError>;

    /// Writes limits of the cgroup, which is made where it is missing: the JSON of an OCI
    /// `LinuxResources` that holds only what changes. All or nothing.
    ///
    /// # Errors
    /// [`CgroupError::Limit`] with the file and the value.
    fn limit(&self, cgroup: &str, resources: &str) -> Result<(), CgroupError>;

    /// Moves this process, with all its threads, into the cgroup of every hierarchy.
    ///
    /// # Errors
    /// Where the kernel refuses, or it is not there.
    fn enter(&self, cgroup: &str) -> Result<(), CgroupError>;

    /// Moves a process into the leaf [`HOLDER`] below the cgroup, in every hierarchy: so the cgroup has
    /// no process of its own, and lets controllers through to its leaves.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn hold(&self, cgroup: &str, pid: i32) -> Result<(), CgroupError>;

    /// Kills every process of the cgroup and of those below it, and waits until none is left.
    ///
    /// # Errors
    /// [`CgroupError::Alive`] where some do not end.
    fn kill_all(&self, cgroup: &str) -> Result<(), CgroupError>;

    /// Removes the cgroup and those below it from every hierarchy. One that is absent is removed.
    ///
    /// # Errors
    /// [`CgroupError::Alive`] where processes are left in it.
    fn remove(&self, cgroup: &str) -> Result<(), CgroupError>;
}

/// The leaf of a pod's scope in which its holder is.
pub const HOLDER: &str = "holder";

/// Why a cgroup could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The path could lead elsewhere.
    #[error("{0:?} is no cgroup's path: it must begin with a slash, and name one without . or ..")]
    Path(String),
    /// It is in no hierarchy.
    #[error("cgroup {0} does not exist")]
    Missing(String),
    /// Processes are left in it.
    #[error(
        "cgroup {cgroup} still has processes {pids:?}: see what they wait for in /proc/PID/wchan"
    )]
    Alive {
        /// The cgroup.
        cgroup: String,
        /// Their pids as the host sees them.
        pids: Vec<i32>,
    },
    /// This node has none.
    #[error("no cgroup hierarchy is mounted; mount cgroup2 at /sys/fs/cgroup")]
    NoHierarchy,
    /// A limit was refused.
    #[error("limit cgroup {cgroup}")]
    Limit {
        /// The cgroup.
        cgroup: String,
        /// Which file refused which value, and why.
        #[source]
        failure: Failure,
    },
    /// The kernel refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// A file says what nobody expects.
    #[error("{} says {text:?}, which is no number", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        text: String,
    },
}

impl CgroupError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Path(_) => Kind::InvalidArgument,
            Self::Missing(_) => Kind::NotFound,
            Self::Limit { failure, .. } if failure.kind == FailureKind::State => {
                Kind::FailedPrecondition
            }
            Self::Alive { .. }
            | Self::NoHierarchy
            | Self::Limit { .. }
            | Self::Io { .. }
            | Self::Format { .. } => Kind::Internal,
        }
    }

    fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

impl From<CgroupError> for Error {
    fn from(error: CgroupError) -> Self {
        let wider = Error::new(error.kind(), error.to_string());
        match error {
            CgroupError::Io { source, .. } => wider.caused_by(source),
            CgroupError::Limit { failure, .. } => wider.caused_by(failure),
            _ => wider,
        }
    }
}

/// The path without its leading slash, ready to be joined to a hierarchy's root.
fn below_root(cgroup: &str) -> Result<&str, CgroupError> {
    let bad = || CgroupError::Path(cgroup.to_owned());
    let path = cgroup.strip_prefix('/').ok_or_else(bad)?;
    let sound = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    match path.split('/').all(sound) {
        true => Ok(path),
        false => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_to_a_root_or_out_of_it() {
        assert_eq!(
            below_root("/kubepods/pod1/abc").unwrap(),
            "kubepods/pod1/abc"
        );
        for bad in [
            "", "/", "a", "//a", "/a/", "/a/../b", "/..", "/a/./b", "/a\0b",
        ] {
            assert!(below_root(bad).is_err(), "{bad:?} was taken");
        }
    }
}
