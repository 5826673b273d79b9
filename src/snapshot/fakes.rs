//! A snapshotter without layers: the same answers, no file system underneath.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use corten_shim::api::RootfsMount;

use super::{Error, Snapshotter};
use crate::{id::ChainId, unpack::Usage};

/// Remembers which directories are prepared.
#[derive(Debug, Default)]
pub struct Overlay {
    prepared: Mutex<BTreeSet<PathBuf>>,
    counted: Mutex<Option<Usage>>,
    walked: Mutex<Option<Usage>>,
}

impl Overlay {
    /// The directories that were prepared and not removed.
    #[must_use]
    pub fn prepared(&self) -> Vec<PathBuf> {
        self.prepared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

impl Overlay {
    /// From now on the file system counts, and this is what it says.
    pub fn count(&self, usage: Usage) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        *counted = Some(usage);
    }
}

impl Overlay {
    /// What walks find from now on.
    pub fn walk(&self, usage: Usage) {
        let mut walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        *walked = Some(usage);
    }
}

impl Snapshotter for Overlay {
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, directory: &Path, layers: &[ChainId]) -> Result<Vec<RootfsMount>, Error> {
        self.prepared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(directory.to_owned());
        std::fs::create_dir_all(directory).map_err(super::error::io_error("make", directory))?;
        self.view(layers)
    }

    fn view(&self, layers: &[ChainId]) -> Result<Vec<RootfsMount>, Error> {
        let options = layers
            .iter()
            .rev()
            .map(|layer| format!("lowerdir+=/layers/{}", layer.0.hex()));
        Ok(vec![RootfsMount {
            fs_type: "overlay".into(),
            source: "overlay".into(),
            options: options.collect(),
        }])
    }

    fn remove(&self, directory: &Path) -> Result<(), Error> {
        self.prepared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(directory);
        Ok(())
    }

    fn usage(&self, _directory: &Path) -> Result<Usage, Error> {
        let walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(walked.unwrap_or(Usage {
            bytes: 4096,
            inodes: 1,
        }))
    }

    fn counted(&self, _directory: &Path) -> Option<Usage> {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
