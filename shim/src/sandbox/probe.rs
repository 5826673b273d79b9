//! Whether pods can have user namespaces on this node: tried, with the very steps of a container.
//!
//! Invariant: nothing is left but what cannot be removed, below the one directory that was named.

use crate::api::{Failure, FailureKind, IdMap, IdMaps, RootfsMount};
use crate::failure::At;
use crate::{parent::rootfs, userns};
use std::path::Path;

/// Any range will do that is not the host's root: nobody lives in it.
const RANGE: IdMap = IdMap {
    inside: 0,
    outside: 1 << 16,
    length: 1 << 16,
};

/// Makes a user namespace, and an overlay that it maps in a new directory below this one.
///
/// # Errors
/// Why a pod cannot have one here.
pub fn user_namespaces(directory: &Path) -> Result<(), Failure> {
    let place = directory.join(".probe");
    // A probe that was killed has left it.
    let _ = std::fs::remove_dir_all(&place);
    let tried = try_in(&place);
    let _ = std::fs::remove_dir_all(&place);
    tried
}

fn try_in(place: &Path) -> Result<(), Failure> {
    let at = |name: &str| place.join(name);
    for name in ["lower", "upper", "work", "rootfs"] {
        std::fs::create_dir_all(at(name)).at(FailureKind::System, || {
            format!("make the directory {}", at(name).display())
        })?;
    }
    let user = userns::make(&IdMaps {
        uids: vec![RANGE],
        gids: vec![RANGE],
    })?;
    let option = |key: &str, name: &str| format!("{key}={}", at(name).display());
    let overlay = RootfsMount {
        fs_type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options: vec![
            option("lowerdir+", "lower"),
            option("upperdir", "upper"),
            option("workdir", "work"),
            "volatile".to_owned(),
        ],
    };
    rootfs::make_one(&overlay, &at("rootfs"), Some(&user)).map(drop)
}
