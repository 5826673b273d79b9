//! An overlay for a user namespace: its lower layers are seen through the namespace, so the image's
//! files belong to the container's own users and nothing on the disk is changed.
//!
//! The writable layer is not mapped: overlayfs itself writes there as the host's root, whom the
//! namespace does not have. It holds the host's numbers of the container's users, and its one
//! directory, just made and empty, is given to its owner there.
//!
//! Kernels before 6.15 take no detached mount as a layer: then the layers are attached first, in a
//! mount namespace that only this process has.

use super::rootfs::{LAYER, leave_the_hosts_namespace, make_new};
use crate::api::{Failure, FailureKind, RootfsMount};
use crate::failure::At;
use crate::filesystem::{self, clone_path};
use crate::plan::options::Options;
use crate::sys::mount::{Depth, map_owners};
use crate::userns::{UserNamespace, cannot_be_mapped};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{MountAttrFlags, UnmountFlags};
use std::path::Path;

/// The option that names the writable layer.
const UPPER: &str = "upperdir";
/// The option that names the directory that overlayfs works in.
const WORK: &str = "workdir";

/// Makes an overlay whose files belong to the users of a namespace.
///
/// # Errors
/// [`FailureKind::Mount`] where the kernel or the layers' file system cannot do it;
/// [`FailureKind::User`] where the namespace lacks the owner of the image's root.
pub fn make(
    wanted: &RootfsMount,
    options: &Options<'_>,
    path: &Path,
    user: &UserNamespace,
) -> Result<OwnedFd, Failure> {
    let layers = mapped_layers(options, user)?;
    if layers.is_empty() {
        return Err(Failure::invalid(
            "map the root file system",
            format!("only an overlay whose layers are named by {LAYER} can be mapped"),
        ));
    }
    give_upper(options, user)?;
    match detached(wanted, &layers) {
        Err(failure) if failure.errno == libc::EINVAL => {
            clear_work(options)?;
            attached(wanted, &layers, path)
        }
        other => other,
    }
    .map_err(|failure| match failure.errno {
        libc::EINVAL => failure.because("an overlay of mapped layers needs Linux 5.19"),
        _ => failure,
    })
}

fn mapped_layers(options: &Options<'_>, user: &UserNamespace) -> Result<Vec<OwnedFd>, Failure> {
    let layers = options.data.iter().filter(|(key, _)| *key == LAYER);
    layers
        .map(|(_, path)| mapped(path.unwrap_or(""), user))
        .collect()
}

fn mapped(path: &str, user: &UserNamespace) -> Result<OwnedFd, Failure> {
    let step = || format!("map the owners of the layer {path}");
    let layer = clone_path(path, Depth::Top).at(FailureKind::Mount, step)?;
    map_owners(&layer, Depth::Top, &user.fd)
        .at(FailureKind::Mount, step)
        .map_err(cannot_be_mapped)?;
    Ok(layer)
}

fn give_upper(options: &Options<'_>, user: &UserNamespace) -> Result<(), Failure> {
    let upper = options.data.iter().find(|(key, _)| *key == UPPER);
    let Some((_, Some(path))) = upper else {
        return Ok(());
    };
    let step = || format!("give {path} to the container");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let upper = rustix::fs::open(*path, flags, Mode::empty()).at(FailureKind::Mount, step)?;
    let now = rustix::fs::fstat(&upper).at(FailureKind::Mount, step)?;
    let uid = Uid::from_raw(user.maps.user(now.st_uid)?);
    let gid = Gid::from_raw(user.maps.group(now.st_gid)?);
    rustix::fs::fchown(&upper, Some(uid), Some(gid)).at(FailureKind::Mount, step)
}

/// An overlay that is not synced marks its work directory before it looks at its layers, and no
/// other may use it then. The one that was refused has written nothing else.
fn clear_work(options: &Options<'_>) -> Result<(), Failure> {
    let work = options.data.iter().find(|(key, _)| *key == WORK);
    let Some((_, Some(path))) = work else {
        return Ok(());
    };
    let mark = Path::new(path).join("work");
    match std::fs::remove_dir_all(&mark) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at(FailureKind::Mount, || format!("clear {}", mark.display())),
    }
}

fn detached(wanted: &RootfsMount, layers: &[OwnedFd]) -> Result<OwnedFd, Failure> {
    let name = |layer: &OwnedFd| format!("/proc/self/fd/{}", layer.as_raw_fd());
    let names: Vec<_> = layers.iter().map(name).collect();
    let renamed = renamed(wanted, &names);
    let options = Options::parse(renamed.options.iter().map(String::as_str))?;
    let (kind, source, top) = (&renamed.fs_type, &renamed.source, options.top.set);
    filesystem::make(kind, source, &options.data, top)
}

/// In a tmpfs over the place of the root: any directory of the bundle's own will do.
fn attached(wanted: &RootfsMount, layers: &[OwnedFd], path: &Path) -> Result<OwnedFd, Failure> {
    let step = || format!("attach the mapped layers at {}", path.display());
    leave_the_hosts_namespace().at(FailureKind::Mount, step)?;
    let none = MountAttrFlags::empty();
    let stand = filesystem::make("tmpfs", "layers", &[("mode", Some("700"))], none)?;
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(FailureKind::Mount, step)?;
    filesystem::attach(&stand, &place).at(FailureKind::Mount, step)?;
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        attach(&stand, number, layer).at(FailureKind::Mount, step)?;
        names.push(path.join(number.to_string()).to_string_lossy().into_owned());
    }
    let renamed = renamed(wanted, &names);
    let options = Options::parse(renamed.options.iter().map(String::as_str))?;
    let made = make_new(&renamed, &options, path)?;
    // The overlay has its own hold on its layers.
    while rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
    Ok(made)
}

fn attach(stand: &OwnedFd, number: usize, layer: &OwnedFd) -> rustix::io::Result<()> {
    let name = number.to_string();
    rustix::fs::mkdirat(stand, &*name, Mode::from_raw_mode(0o700))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::openat(stand, &*name, flags, Mode::empty())?;
    filesystem::attach(layer, &place)
}

/// The same mount with other names for its layers, in their order.
fn renamed(wanted: &RootfsMount, names: &[String]) -> RootfsMount {
    let mut names = names.iter();
    let prefix = format!("{LAYER}=");
    let rename = |option: &String| match option.starts_with(&prefix) {
        true => names.next().map(|name| format!("{prefix}{name}")),
        false => Some(option.clone()),
    };
    RootfsMount {
        options: wanted.options.iter().filter_map(rename).collect(),
        ..wanted.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{IdMap, IdMaps};
    use std::os::unix::fs::MetadataExt;

    /// As kernels before 6.15 need it, which have refused the detached layers by then. In a thread of
    /// its own, whose mount namespace it leaves.
    #[test]
    #[ignore = "needs root"]
    fn root_layers_that_must_be_attached_are_mapped_as_well() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower", "lower/dir", "upper", "work", "rootfs"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let path = dir.path().to_owned();
        let (owner, mounts) = std::thread::spawn(move || through_attached(&path))
            .join()
            .unwrap();
        assert_eq!(owner, (70_000, 70_000));
        assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
    }

    fn through_attached(dir: &Path) -> ((u32, u32), String) {
        let ids = vec![IdMap {
            inside: 0,
            outside: 70_000,
            length: 10,
        }];
        let user = crate::userns::make(&IdMaps {
            uids: ids.clone(),
            gids: ids,
        })
        .unwrap();
        let at = |key: &str, name: &str| format!("{key}={}", dir.join(name).display());
        let wanted = RootfsMount {
            fs_type: "overlay".to_owned(),
            source: "overlay".to_owned(),
            options: vec![
                at("lowerdir+", "lower"),
                at("upperdir", "upper"),
                at("workdir", "work"),
                "volatile".to_owned(),
            ],
        };
        std::fs::create_dir_all(dir.join("work/work/incompat/volatile")).unwrap();
        let words = wanted.options.iter().map(String::as_str);
        let options = Options::parse(words).unwrap();
        let layers = mapped_layers(&options, &user).unwrap();
        clear_work(&options).unwrap();
        let root = attached(&wanted, &layers, &dir.join("rootfs")).unwrap();
        let found = rustix::fs::openat(&root, "dir", OFlags::PATH, Mode::empty()).unwrap();
        let owner = std::fs::File::from(found).metadata().unwrap();
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        ((owner.uid(), owner.gid()), mounts)
    }

    #[test]
    fn layers_get_other_names_in_their_order() {
        let wanted = RootfsMount {
            fs_type: "overlay".to_owned(),
            source: "overlay".to_owned(),
            options: ["lowerdir+=/a", "ro", "lowerdir+=/b"]
                .map(str::to_owned)
                .to_vec(),
        };
        let names = ["/1".to_owned(), "/2".to_owned()];
        assert_eq!(
            renamed(&wanted, &names).options,
            ["lowerdir+=/1", "ro", "lowerdir+=/2"]
        );
    }
}
