//! Trees of the host, cloned while the host's mount namespace is still the current one.

use crate::api::{Failure, FailureKind, ImageVolume};
use crate::failure::At;
use crate::filesystem::clone_path;
use crate::plan::mounts::Tree;
use crate::plan::options::{Attributes, Bind};
use crate::sys::mount::{Depth, MountAttr, set_attr};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;

/// Clones all trees of a plan, in its order, with their attributes. Those that are images are made
/// last: on older kernels that leaves the host's mount namespace.
///
/// # Errors
/// [`FailureKind::Mount`], or [`FailureKind::ImageVolume`], with the path that failed.
pub fn clone_all(trees: &[Tree<'_>], images: &[ImageVolume]) -> Result<Vec<OwnedFd>, Failure> {
    let image = |tree: &Tree<'_>| {
        images
            .iter()
            .find(|image| image.path == Path::new(tree.path))
    };
    let mut cloned = BTreeMap::new();
    for (index, tree) in trees.iter().enumerate() {
        if image(tree).is_none() {
            cloned.insert(index, clone(tree)?);
        }
    }
    for (index, tree) in trees.iter().enumerate() {
        if let Some(image) = image(tree) {
            cloned.insert(index, with_attributes(super::volumes::make(image)?, tree)?);
        }
    }
    Ok(cloned.into_values().collect())
}

/// Clones one tree.
///
/// # Errors
/// As above.
pub fn clone(tree: &Tree<'_>) -> Result<OwnedFd, Failure> {
    let depth = match tree.bind {
        Bind::Single => Depth::Top,
        Bind::Recursive => Depth::Recursive,
    };
    let fd =
        clone_path(tree.path, depth).at(FailureKind::Mount, || format!("bind {}", tree.path))?;
    with_attributes(fd, tree)
}

fn with_attributes(fd: OwnedFd, tree: &Tree<'_>) -> Result<OwnedFd, Failure> {
    let step = || format!("set the attributes of {}", tree.path);
    change(&fd, Depth::Top, &tree.top).at(FailureKind::Mount, step)?;
    change(&fd, Depth::Recursive, &tree.all).at(FailureKind::Mount, step)?;
    Ok(fd)
}

fn change(fd: &OwnedFd, depth: Depth, attributes: &Attributes) -> Result<(), Errno> {
    if attributes.is_empty() {
        return Ok(());
    }
    let attr = MountAttr {
        set: attributes.set.bits().into(),
        clear: attributes.clear.bits().into(),
        ..MountAttr::default()
    };
    set_attr(fd, depth, &attr)
}
