//! Attaches mounts below the container's root, and makes that root the process's own.
//!
//! Invariant: a destination is a descriptor found inside the root, never a path; nothing is
//! attached inside a procfs but the few files that it is customary to replace.

use super::Builder;
use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::filesystem;
use crate::plan::mounts::{FileSystem, MountStep, Source};
use crate::plan::options::{Propagation, Spread};
use crate::root::{Root, Target, kind};
use crate::sys::mount::{Depth, MountAttr, set_attr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::path::Path;

/// What may be replaced inside `/proc`: files that show the machine, which LXCFS and its like
/// replace by files that show the container.
const IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Cuts the copy of the host's mounts off, so that nothing done here is seen there. By the old
/// call: on older kernels the new one refuses a root without a parent mount, as a nested node has.
///
/// # Errors
/// What the kernel says.
pub fn detach_from_host() -> Result<(), Failure> {
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", all).at(FailureKind::Mount, || {
        "detach from the host's mounts".to_owned()
    })
}

/// Attaches the root file system at its path in this mount namespace.
///
/// # Errors
/// What the kernel says.
pub fn attach_root(root: &OwnedFd, path: &Path) -> Result<Root, Failure> {
    let step = || format!("attach the root file system at {}", path.display());
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(FailureKind::Mount, step)?;
    filesystem::attach(root, &place).at(FailureKind::Mount, step)?;
    // A clone of a shared tree is its peer: without this a mount made below would show on the host.
    set_propagation(root, Depth::Recursive, Propagation::Private).at(FailureKind::Mount, step)?;
    root.try_clone()
        .map(Root::new)
        .at(FailureKind::System, step)
}

const IN_A_CHROOT: &str = "Corten runs in a chroot, where whoever joins the container's mount namespace \
     would find the files outside: run it where the root is the mount namespace's own, as after pivot_root";

/// In a chroot `pivot_root` exchanges what the chroot takes for the root. The root of the mount
/// namespace, where an exec comes in, stays the host's.
fn go_to_the_namespaces_root() -> Result<(), Errno> {
    let me = pidfd_open(getpid(), PidfdFlags::empty())?;
    move_into_thread_name_spaces(me.as_fd(), ThreadNameSpaceType::MOUNT)
}

fn is_at(root: &Root) -> Result<bool, Errno> {
    let (here, wanted) = (rustix::fs::stat(c"/")?, rustix::fs::fstat(root)?);
    Ok((here.st_dev, here.st_ino) == (wanted.st_dev, wanted.st_ino))
}

/// Makes the container's root the root of this process. The host's ends up on top of it, at the same place,
/// and is what `.` then means: no path leads there.
///
/// # Errors
/// What the kernel says.
pub fn pivot(root: &Root) -> Result<(), Failure> {
    let step = || "change to the container's root".to_owned();
    rustix::process::fchdir(root).at(FailureKind::Mount, step)?;
    rustix::process::pivot_root(c".", c".").at(FailureKind::Mount, step)
}

/// Lets go of the host's root, after [`pivot`].
///
/// # Errors
/// What the kernel says, and that the host's root is a chroot.
pub fn let_go_of_host(root: &Root, spread: Option<Spread>) -> Result<(), Failure> {
    let step = || "let go of the host's root".to_owned();
    unmount(c".", UnmountFlags::DETACH).at(FailureKind::Mount, step)?;
    go_to_the_namespaces_root().at(FailureKind::System, step)?;
    if !is_at(root).at(FailureKind::System, step)? {
        return Err(Failure::state(step(), IN_A_CHROOT));
    }
    match spread {
        // The root is new and private: it has no master that it could hear from.
        None
        | Some(Spread {
            kind: Propagation::Private | Propagation::Slave,
            ..
        }) => Ok(()),
        Some(Spread {
            kind: Propagation::Shared,
            recursive,
        }) => change_root(MountPropagationFlags::SHARED, recursive),
        Some(Spread {
            kind: Propagation::Unbindable,
            recursive,
        }) => change_root(MountPropagationFlags::UNBINDABLE, recursive),
    }
}

fn change_root(propagation: MountPropagationFlags, recursive: bool) -> Result<(), Failure> {
    let depth = match recursive {
        true => MountPropagationFlags::REC,
        false => MountPropagationFlags::empty(),
    };
    mount_change(c"/", propagation | depth).at(FailureKind::Mount, || {
        "set the propagation of the root".to_owned()
    })
}

fn set_propagation(mount: impl AsFd, depth: Depth, kind: Propagation) -> Result<(), Errno> {
    let attr = MountAttr {
        propagation: kind.flag(),
        ..MountAttr::default()
    };
    set_attr(mount, depth, &attr)
}

impl Builder<'_> {
    /// Carries out one mount of the plan.
    pub(super) fn mount(&mut self, step: &MountStep<'_>) -> Result<(), Failure> {
        match &step.source {
            Source::Tree(index) => self.attach_tree(*index, step),
            Source::FileSystem(wanted) => self.attach_new(wanted, step),
            Source::Cgroup(wanted) => {
                super::cgroupfs::mount(self.root, step.destination, *wanted, &self.cgroup_view())
            }
        }
    }

    fn cgroup_view(&self) -> super::cgroupfs::View<'_> {
        super::cgroupfs::View {
            cgroup: self.cgroup,
            own_namespace: self.new_cgroup_namespace,
        }
    }

    fn attach_tree(&mut self, index: usize, step: &MountStep<'_>) -> Result<(), Failure> {
        let at = step.destination;
        let tree = self.trees.get(index);
        let tree =
            tree.ok_or_else(|| Failure::invalid(format!("mount {at}"), "its tree is missing"))?;
        let target =
            match kind(tree).at(FailureKind::Mount, || format!("look at the source of {at}"))? {
                FileType::Directory => Target::Directory,
                _ => Target::File,
            };
        let place = destination(self.root, at, target)?;
        filesystem::attach(tree, &place).at(FailureKind::Mount, || format!("mount {at}"))?;
        spread(tree, step)
    }

    /// A tmpfs that is given no mode takes that of the directory that it hides, where there is one: else
    /// everybody could write to a `/dev`.
    fn mode_of_tmpfs(&self, wanted: &FileSystem<'_>, at: &str) -> Option<String> {
        if wanted.kind != "tmpfs" || wanted.data.iter().any(|(key, _)| *key == "mode") {
            return None;
        }
        let hidden = rustix::fs::fstat(self.root.find(at).ok()?).ok()?;
        Some(format!("{:o}", hidden.st_mode & 0o7777))
    }

    fn attach_new(&mut self, wanted: &FileSystem<'_>, step: &MountStep<'_>) -> Result<(), Failure> {
        let at = step.destination;
        let mode = self.mode_of_tmpfs(wanted, at);
        let place = match wanted.kind {
            "proc" | "sysfs" => plain_destination(self.root, at)?,
            _ => destination(self.root, at, Target::Directory)?,
        };
        let mut data = wanted.data.clone();
        data.extend(mode.as_deref().map(|mode| ("mode", Some(mode))));
        let made = filesystem::make(wanted.kind, wanted.source, &data, wanted.attributes)
            .map_err(|failure| explain(failure, wanted.kind))
            .map_err(|failure| failure.because(format!("the mount at {at}")))?;
        if wanted.copies_up {
            super::copy_up::copy(&place, &made, at)?;
        }
        filesystem::attach(&made, &place).at(FailureKind::Mount, || format!("mount {at}"))?;
        match step.spread.kind {
            Propagation::Private => Ok(()),
            _ => spread(&made, step),
        }
    }
}

/// The kernel shows a user namespace nothing that the node itself does not see.
fn explain(failure: Failure, kind: &str) -> Failure {
    match (failure.errno, kind) {
        (libc::EPERM, "proc" | "sysfs") => failure.because(
            "in a user namespace it needs a node whose own is whole, with nothing mounted over parts of it",
        ),
        _ => failure,
    }
}

fn spread(mount: &OwnedFd, step: &MountStep<'_>) -> Result<(), Failure> {
    let depth = match step.spread.recursive {
        true => Depth::Recursive,
        false => Depth::Top,
    };
    set_propagation(mount, depth, step.spread.kind).at(FailureKind::Mount, || {
        format!("set the propagation of {}", step.destination)
    })
}

/// Finds or makes a destination, and refuses one inside a procfs.
///
/// # Errors
/// [`FailureKind::Mount`].
pub fn destination(root: &Root, path: &str, target: Target) -> Result<OwnedFd, Failure> {
    let step = || format!("find the mount point {path}");
    let place = root
        .destination(path, target)
        .at(FailureKind::Mount, step)?;
    let inside = fstatfs(&place).at(FailureKind::Mount, step)?;
    let allowed = IN_PROC.contains(&path.trim_end_matches('/'));
    if inside.f_type == PROC_SUPER_MAGIC && !allowed {
        return Err(Failure::invalid(step(), "it leads into /proc"));
    }
    Ok(place)
}

/// As [`destination`], for a file system that others will trust by its path: no part of the path
/// may be a link of the image.
fn plain_destination(root: &Root, path: &str) -> Result<OwnedFd, Failure> {
    destination(root, path, Target::Directory)?;
    root.find_plain(path)
        .at(FailureKind::Mount, || {
            format!("find the mount point {path}")
        })
        .map_err(|failure| match failure.errno {
            libc::ELOOP => failure.because("a part of it is a symbolic link of the image"),
            _ => failure,
        })
}
