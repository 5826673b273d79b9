//! ImageFsInfo: what images take, from what was counted when they were unpacked.

use std::path::PathBuf;

use super::{images::Images, now};

/// The file system of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFsInfo {
    /// A directory on it.
    pub mountpoint: PathBuf,
    /// Bytes that images take.
    pub used_bytes: u64,
    /// Inodes that images take.
    pub inodes_used: u64,
    /// When that was so, in nanoseconds since the epoch.
    pub timestamp: i64,
}

impl Images {
    /// What all images take together. No walk.
    #[must_use]
    pub fn fs_info(&self) -> ImageFsInfo {
        let layers = self.layers.usage();
        let images = self.all();
        let blobs: u64 = images.iter().map(|image| image.blob_bytes).sum();
        ImageFsInfo {
            mountpoint: self.layers.directory().to_owned(),
            used_bytes: layers.bytes + blobs,
            // A record, a manifest and a config for each.
            inodes_used: layers.inodes + 3 * images.len() as u64,
            timestamp: now(),
        }
    }
}
