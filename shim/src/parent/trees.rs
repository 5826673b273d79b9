//! Trees of the host, cloned while the host's mount namespace is still the current one.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::filesystem::clone_path;
use crate::plan::mounts::Tree;
use crate::plan::options::{Attributes, Bind};
use crate::sys::mount::{Depth, MountAttr, set_attr};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// Clones all trees of a plan, in its order, with their attributes.
///
/// # Errors
/// [`FailureKind::Mount`], with the path that failed.
pub fn clone_all(trees: &[Tree<'_>]) -> Result<Vec<OwnedFd>, Failure> {
    trees.iter().map(clone).collect()
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
