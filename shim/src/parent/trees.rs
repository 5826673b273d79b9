//! Trees of the host, cloned while the host's mount namespace is still the current one.

use crate::api::{Failure, FailureKind, ImageVolume};
use crate::failure::At;
use crate::filesystem::clone_path;
use crate::plan::mounts::{Idmap, Reach, Tree};
use crate::plan::options::{Attributes, Bind};
use crate::sys::mount::{Depth, MountAttr, map_owners, set_attr};
use crate::userns::{self, UserNamespace};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;

/// Clones all trees of a plan, in its order, with their attributes. Those that are images are made
/// last: on older kernels that leaves the host's mount namespace. `own` is the container's user
/// namespace.
///
/// # Errors
/// [`FailureKind::Mount`], or [`FailureKind::ImageVolume`], with the path that failed.
pub fn clone_all(
    trees: &[Tree<'_>],
    images: &[ImageVolume],
    own: Option<&UserNamespace>,
) -> Result<Vec<OwnedFd>, Failure> {
    let image = |tree: &Tree<'_>| {
        images
            .iter()
            .find(|image| image.path == Path::new(tree.path))
    };
    let mut cloned = BTreeMap::new();
    for (index, tree) in trees.iter().enumerate() {
        if image(tree).is_none() {
            cloned.insert(index, clone(tree, own)?);
        }
    }
    for (index, tree) in trees.iter().enumerate() {
        if let Some(image) = image(tree) {
            // Its layers are mapped, and so what is made of them is not mapped again.
            let made = super::volumes::make(image, own)?;
            cloned.insert(index, with_attributes(made, tree)?);
        }
    }
    Ok(cloned.into_values().collect())
}

/// Clones one tree.
///
/// # Errors
/// As above.
pub fn clone(tree: &Tree<'_>, own: Option<&UserNamespace>) -> Result<OwnedFd, Failure> {
    let depth = match tree.bind {
        Bind::Single => Depth::Top,
        Bind::Recursive => Depth::Recursive,
    };
    let fd =
        clone_path(tree.path, depth).at(FailureKind::Mount, || format!("bind {}", tree.path))?;
    let fd = with_attributes(fd, tree)?;
    if let Some(wanted) = &tree.idmap {
        map(&fd, wanted, own).map_err(|failure| failure.because(format!("bind {}", tree.path)))?;
    }
    Ok(fd)
}

fn with_attributes(fd: OwnedFd, tree: &Tree<'_>) -> Result<OwnedFd, Failure> {
    let step = || format!("set the attributes of {}", tree.path);
    change(&fd, Depth::Top, &tree.top).at(FailureKind::Mount, step)?;
    change(&fd, Depth::Recursive, &tree.all).at(FailureKind::Mount, step)?;
    Ok(fd)
}

/// By the container's own user namespace, or by one that is made for this mount.
fn map(tree: &OwnedFd, wanted: &Idmap, own: Option<&UserNamespace>) -> Result<(), Failure> {
    let step = || "map the owners of a mount".to_owned();
    let made;
    let by = match (&wanted.ids, own) {
        (None, Some(own)) => own,
        (Some(ids), Some(own)) if *ids == own.maps => own,
        (Some(ids), _) => {
            made = userns::make(ids)?;
            &made
        }
        (None, None) => {
            return Err(Failure::invalid(
                step(),
                "the container has no user namespace to map them by",
            ));
        }
    };
    let mapped = match wanted.reach {
        Reach::Top => map_owners(tree, Depth::Top, &by.fd),
        Reach::Tree => map_owners(tree, Depth::Recursive, &by.fd),
        Reach::Widest => map_owners(tree, Depth::Recursive, &by.fd)
            .or_else(|_| map_owners(tree, Depth::Top, &by.fd)),
    };
    mapped
        .at(FailureKind::Mount, step)
        .map_err(userns::cannot_be_mapped)
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
