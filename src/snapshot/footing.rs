//! What roots stand on: whether overlayfs can have its directories on the file systems of this node's root.
//!
//! Invariant: what cannot be found out counts as good: the mount of a container tells then.

use rustix::fs::{FsWord, statfs};
use std::path::Path;
use tracing::warn;

/// What `statfs(2)` says of an overlayfs (`OVERLAYFS_SUPER_MAGIC`).
const OVERLAYFS: FsWord = 0x794c_7630;

/// Looks at where layers are and where containers write, and warns of what will not do. Layers alone on
/// an overlayfs are no reason to refuse pods: overlayfs takes one as its lower layer.
///
/// # Errors
/// Why no container can be made, and what to do about it.
pub(super) fn check(layers: &Path, writable: &Path) -> Result<(), String> {
    if is_overlay(writable) {
        let reason = advice(writable);
        warn!(reason, "no container can be made");
        return Err(reason);
    }
    if is_overlay(layers) {
        warn!(
            directory = %layers.display(),
            "layers are on an overlayfs, which takes no whiteouts: an image that deletes files of its own lower layers cannot be pulled"
        );
    }
    Ok(())
}

fn is_overlay(path: &Path) -> bool {
    statfs(path).is_ok_and(|told| told.f_type == OVERLAYFS)
}

fn advice(path: &Path) -> String {
    format!(
        "{} is on an overlayfs, which cannot have the writable layers of another one: \
         containers cannot be made; put a disk or a volume there (in a container that is a node, of docker or kind: \
         --volume /var), or let `root` name a directory on one (/etc/corten/corten.toml), and start corten again",
        path.display()
    )
}
