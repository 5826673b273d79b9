//! The container's root file system: a detached mount that the init will attach.
//!
//! An overlay gets its layers one by one (`lowerdir+`), so that no page bounds their number. A
//! kernel that does not know that option (before 6.5), and a path that is too long for it (255
//! bytes), get the joined list by the old call, in a mount namespace that only the stage has. That
//! call takes one page of options: there each layer is the number of a descriptor, as a name in
//! `/proc/self/fd`, so that as many fit as overlayfs itself takes.

use super::idmapped;
use crate::api::{Failure, FailureKind, RootfsMount};
use crate::bundle::{Spec, rootfs_mounts};
use crate::failure::At;
use crate::filesystem;
use crate::plan::options::Options;
use crate::plan::{mounts, whole_root};
use crate::sys::clone::unshare;
use crate::sys::mount::Depth;
use crate::userns::UserNamespace;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::chdir;
use rustix::thread::UnshareFlags;
use std::path::{Path, PathBuf};

pub(super) const LAYER: &str = "lowerdir+";

/// Where the root is in the bundle: also where the init attaches it, in its own namespace.
#[must_use]
pub fn path(bundle: &Path, spec: &Spec<'_>) -> PathBuf {
    bundle.join(spec.root.path.as_deref().unwrap_or("rootfs"))
}

/// Makes the root of `rootfs.json`, or clones the one that is ready.
///
/// What `rootfs.json` names holds the ids of the image, so it is mapped for a user namespace. A
/// root that is ready is taken as it is: whoever made it knew of the namespace.
///
/// # Errors
/// [`FailureKind::Invalid`] or [`FailureKind::Mount`].
pub fn make(bundle: &Path, path: &Path, user: Option<&UserNamespace>) -> Result<OwnedFd, Failure> {
    let Some(mounts) = rootfs_mounts(bundle)? else {
        return super::trees::clone(&whole_root(&path.to_string_lossy()), None);
    };
    match mounts.as_slice() {
        [only] => make_one(only, path, user),
        _ => Err(Failure::invalid(
            "make the root file system",
            "rootfs.json does not list exactly one mount",
        )),
    }
}

/// Makes one mount, its owners mapped where there is a user namespace. `path` is where the old call
/// mounts it, in the stage's own namespace.
///
/// # Errors
/// As above.
pub fn make_one(
    wanted: &RootfsMount,
    path: &Path,
    user: Option<&UserNamespace>,
) -> Result<OwnedFd, Failure> {
    let options = Options::parse(wanted.options.iter().map(String::as_str))?;
    if wanted.fs_type == "bind" || options.bind.is_some() {
        let mut tree = whole_root(&wanted.source);
        tree.top = options.top;
        tree.all = options.tree;
        tree.idmap = user.map(|_| mounts::Idmap {
            reach: mounts::Reach::Tree,
            ids: None,
        });
        return super::trees::clone(&tree, user);
    }
    match user {
        None => make_new(wanted, &options, path),
        Some(user) => idmapped::make(wanted, &options, path, user),
    }
}

/// Makes a file system by the new calls, or by the old one.
///
/// # Errors
/// [`FailureKind::Mount`].
pub(super) fn make_new(
    wanted: &RootfsMount,
    options: &Options<'_>,
    path: &Path,
) -> Result<OwnedFd, Failure> {
    let (kind, source, top) = (&wanted.fs_type, &wanted.source, options.top.set);
    match filesystem::make(kind, source, &options.data, top) {
        Err(failure) if failure.errno == libc::EINVAL && has_layers(options) => {
            by_the_old_call(wanted, options, path).map_err(|_| failure)
        }
        other => other,
    }
}

fn has_layers(options: &Options<'_>) -> bool {
    options.data.iter().any(|(key, _)| *key == LAYER)
}

fn by_the_old_call(
    wanted: &RootfsMount,
    options: &Options<'_>,
    path: &Path,
) -> Result<OwnedFd, Failure> {
    let step = || format!("mount the layers at {}", path.display());
    leave_the_hosts_namespace().at(FailureKind::Mount, step)?;
    let layers = layers(options).at(FailureKind::Mount, step)?;
    let flags = if options.top.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        MountFlags::RDONLY
    } else {
        MountFlags::empty()
    };
    let data = std::ffi::CString::new(joined(options, &layers))
        .map_err(|_| Failure::invalid(step(), "a path with a NUL byte"))?;
    chdir(c"/proc/self/fd").at(FailureKind::Mount, step)?;
    let mounted = mount(&*wanted.source, path, &*wanted.fs_type, flags, &*data);
    chdir(c"/").at(FailureKind::Mount, step)?;
    mounted.at(FailureKind::Mount, step)?;
    filesystem::clone_path(&path.to_string_lossy(), Depth::Top).at(FailureKind::Mount, step)
}

/// A private copy of the host's mounts: what is mounted here is seen by nobody and ends with us.
///
/// # Errors
/// What the kernel says.
pub fn leave_the_hosts_namespace() -> rustix::io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    mount_change(
        c"/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
}

fn layers(options: &Options<'_>) -> rustix::io::Result<Vec<OwnedFd>> {
    let layers = options.data.iter().filter(|(key, _)| *key == LAYER);
    let open = |path| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    layers.map(|(_, path)| open(path.unwrap_or(""))).collect()
}

/// The options as one text, the layers joined by their numbers.
fn joined(options: &Options<'_>, layers: &[OwnedFd]) -> String {
    let number = |layer: &OwnedFd| layer.as_raw_fd().to_string();
    let layers: Vec<_> = layers.iter().map(number).collect();
    let mut words = vec![format!("lowerdir={}", layers.join(":"))];
    words.extend(options.data.iter().filter(|(key, _)| *key != LAYER).map(
        |(key, value)| match value {
            Some(value) => format!("{key}={}", value.replace('\\', "\\\\").replace(',', "\\,")),
            None => (*key).to_owned(),
        },
    ));
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_joined_in_their_order_and_the_rest_escaped() {
        let words = [
            "lowerdir+=/proc",
            "lowerdir+=/",
            "upperdir=/u,v",
            "workdir=/w",
            "volatile",
        ];
        let options = Options::parse(words.into_iter()).unwrap();
        let layers = layers(&options).unwrap();
        let [first, second] = [&layers[0], &layers[1]].map(AsRawFd::as_raw_fd);
        assert_eq!(
            joined(&options, &layers),
            format!("lowerdir={first}:{second},upperdir=/u\\,v,workdir=/w,volatile")
        );
    }
}
