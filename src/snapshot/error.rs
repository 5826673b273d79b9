//! Why a layer or a snapshot could not be made.

use std::{io, path::PathBuf};

use crate::{error::Kind, id::ChainId};

/// Why a layer or a snapshot could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{operation} {path}")]
    Io {
        /// A verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// A layer that was asked for is not there.
    #[error("layer {0} is not on this node: pull the image again")]
    Missing(ChainId),
    /// What a layer's files were is not known.
    #[error(
        "layer {0} was unpacked by a version that kept no inventory: its files cannot be checked"
    )]
    NoInventory(ChainId),
    /// A layer has a file of this one, of which is not known any more what it was.
    #[error(
        "{path} of layer {layer} is linked to, and that layer's inventory is broken: the next pull brings it anew"
    )]
    Inventory {
        /// The layer below.
        layer: ChainId,
        /// Its file.
        path: PathBuf,
        /// What is wrong with the inventory.
        #[source]
        source: io::Error,
    },
    /// A hard link of a layer names a file that no layer below has.
    #[error("hard link {path} names {target}, which neither this layer nor one below it has")]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// What it names.
        target: PathBuf,
    },
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) => Kind::NotFound,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Kind::ResourceExhausted
            }
            Self::Io { .. }
            | Self::DanglingLink { .. }
            | Self::NoInventory(_)
            | Self::Inventory { .. } => Kind::Internal,
        }
    }
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), "use the layer store").caused_by(error)
    }
}

/// The error of a system call on a path.
pub(super) fn io_error<E: Into<io::Error>>(
    operation: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(E) -> Error {
    let path = path.into();
    move |source| Error::Io {
        operation,
        path,
        source: source.into(),
    }
}
