//! Records on disk: what will be made is written here before it is made.
//!
//! JSON files in the object's own directory, each put in its place by a rename. Nothing is
//! synced: after a power cut a pod is gone anyway, and a kill of the daemon loses nothing that the
//! kernel was given. A life is short and each of its first states has a file of its own, of which the
//! furthest counts: a rename over another file makes ext4 write the new one to the disk at once, for
//! which a caller would wait (0.2 to 0.3 ms).
//!
//! ```text
//! ROOT/sandboxes/ID/    creating.json  sandbox.json
//! ROOT/containers/ID/   container.json (it runs, or ran)
//!                       beside it the writable layer, exit.json
//! STATE/containers/ID/  creating.json  created.json, and the bundle
//! ```
//! A container that never ran, and what its shim reads, are of this boot alone: the state is in memory,
//! where a file costs a tenth of one on a disk, and much less where many were deleted before (ext4
//! passes over each for some minutes). After a boot all that is left of such a container is a directory
//! without a record.
//!
//! Invariant: while a boot lasts a record is either whole or absent. A power cut may leave one empty or
//! torn: then the one before it counts, which is an intent, and where none is whole the object's name is
//! all that is left, from which it is undone. A whole one that this version does not understand is
//! reported with its path and left where it is. A directory that has none goes with the next start.

#[cfg(test)]
pub mod fakes;
mod file;

pub use file::FileStore;

use crate::error::{Error, Kind};
use crate::id::{ContainerId, SandboxId};
use crate::model::container::Container;
use crate::model::sandbox::Sandbox;
use std::path::{Path, PathBuf};

/// Where records are kept. Calls may wait for the disk: they belong on a blocking thread.
pub trait Store: Send + Sync {
    /// Writes a sandbox's record.
    ///
    /// # Errors
    /// Where the disk refuses.
    fn save_sandbox(&self, sandbox: &Sandbox) -> Result<(), StoreError>;

    /// Writes a container's record. That of one which never ran waits for no disk.
    ///
    /// # Errors
    /// Where the disk refuses.
    fn save_container(&self, container: &Container) -> Result<(), StoreError>;

    /// Takes a sandbox's directory away with all that is in it; absent is fine.
    ///
    /// # Errors
    /// Where the disk refuses.
    fn remove_sandbox(&self, id: &SandboxId) -> Result<(), StoreError>;

    /// Takes a container's directories away with all that is in them; absent is fine. They
    /// vanish at once, what they held in the background.
    ///
    /// # Errors
    /// Where the disk refuses.
    fn remove_container(&self, id: &ContainerId) -> Result<(), StoreError>;

    /// Everything that is on disk.
    ///
    /// # Errors
    /// Where a directory cannot be read at all; single records that cannot are in the answer.
    fn load(&self) -> Result<Loaded, StoreError>;

    /// The directory of all containers' directories.
    fn containers_dir(&self) -> PathBuf;

    /// A container's own directory, of what lasts.
    fn container_dir(&self, id: &ContainerId) -> PathBuf;

    /// A container's bundle, which ends with this boot.
    fn bundle_dir(&self, id: &ContainerId) -> PathBuf;
}

/// What was found on disk.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// The containers.
    pub containers: Vec<Container>,
    /// Sandboxes of which no record is whole any more.
    pub torn_sandboxes: Vec<SandboxId>,
    /// Containers of which no record is whole any more.
    pub torn_containers: Vec<ContainerId>,
    /// Sandboxes whose record is there and cannot be read: left alone, with their containers.
    pub unread_sandboxes: Vec<SandboxId>,
    /// Records that could not be read, and why.
    pub unreadable: Vec<StoreError>,
}

/// A record could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The file holds no whole value: a power cut came between the rename and the data.
    #[error("read the record {path}: it is torn")]
    Torn {
        /// The file.
        path: PathBuf,
        /// Where it ends.
        #[source]
        source: serde_json::Error,
    },
    /// The file's content is no record.
    #[error(
        "read the record {path}: not what this version writes; move it away to go on without it"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl StoreError {
    fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// The file is empty, ends early or holds what no version writes.
    fn is_torn(&self) -> bool {
        matches!(self, Self::Torn { .. })
    }

    /// There is no such file.
    fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Kind::ResourceExhausted
            }
            Self::Io { .. } | Self::Torn { .. } | Self::Content { .. } => Kind::Internal,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::new(error.kind(), "keep the record").caused_by(error)
    }
}
