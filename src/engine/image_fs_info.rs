//! ImageFsInfo: what images and writable layers take, from what was counted when they were made.
//!
//! Invariant: no walk is waited for, and nothing grows with what is on the node but a sum over containers,
//! which only a node asks for whose writable layers are on a file system of their own. Those layers are
//! counted by it or measured beside the call, also those of containers that have ended (`stats/layers.rs`).

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Engine, blocking, images::Images, now};
use crate::error::Result;

/// The use of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFsInfo {
    /// A directory on it.
    pub mountpoint: PathBuf,
    /// Bytes that are taken.
    pub used_bytes: u64,
    /// Inodes that are taken.
    pub inodes_used: u64,
    /// When that was so, in nanoseconds since the epoch.
    pub timestamp: i64,
}

impl Images {
    /// What all images take together: layers, manifests, configs and records.
    #[must_use]
    pub fn fs_info(&self) -> ImageFsInfo {
        let (layers, content) = (self.layers.usage(), self.content.usage());
        ImageFsInfo {
            mountpoint: self.layers.directory().to_owned(),
            used_bytes: layers.bytes + content.bytes,
            inodes_used: layers.inodes + content.inodes,
            timestamp: now(),
        }
    }
}

impl Engine {
    /// What writable layers take together, where they are on another file system than the images;
    /// `None` where it is the same.
    ///
    /// # Errors
    /// Where a thread of the daemon's fails.
    pub async fn container_fs_info(&self) -> Result<Option<ImageFsInfo>> {
        let images = self.ports.images.fs_info().mountpoint;
        let containers = self.ports.store.containers_dir();
        if is_same(&images, &containers) {
            return Ok(None);
        }
        let (layers, counting) = (self.objects.containers(), self.counting());
        self.measure_layers(layers.clone());
        let layers = blocking(move || {
            counting.count(&layers);
            Ok(layers)
        });
        let used = layers.await?.into_iter();
        let used = used.filter_map(|cell| cell.layer.usage());
        let empty = ImageFsInfo {
            mountpoint: containers,
            used_bytes: 0,
            inodes_used: 0,
            timestamp: now(),
        };
        Ok(Some(used.fold(empty, |mut sum, layer| {
            sum.used_bytes += layer.used_bytes;
            sum.inodes_used += layer.inodes_used;
            sum
        })))
    }
}

/// Whether both are on one file system. What is not there is on no other.
fn is_same(one: &Path, other: &Path) -> bool {
    let device = |path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    match (device(one), device(other)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_told_by_its_device() {
        let (here, memory) = (Path::new("/"), Path::new("/proc"));
        assert!(is_same(here, here) && !is_same(here, memory));
        assert!(is_same(here, Path::new("/no/such")));
    }
}
