//! Makes a pod's namespaces and pins them.

use super::holder::{self, Holder};
use super::sysctl::Sysctls;
use super::{loopback, netns_directory, owned, unpin};
use crate::api::{Failure, FailureKind, PinRequest, Pins, ProcessName};
use crate::failure::At;
use crate::sys::clone::unshare;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Why a path is not taken.
const THERE: &str = "it is there already: it is to be unpinned first";

/// What the caller gets of a pod whose namespaces are pinned.
#[derive(Debug)]
pub struct Pinned {
    /// The process that holds the PID namespace or the scope, where there is one.
    pub holder: Option<ProcessName>,
    /// As in [`crate::api::SandboxReply::Pinned`].
    pub fds: Vec<OwnedFd>,
}

/// A pod's namespaces, held open and not pinned yet.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// The user namespace that owns the others, where that is not the host's.
    pub user: Option<OwnedFd>,
    /// Network.
    pub network: Option<OwnedFd>,
    /// IPC.
    pub ipc: Option<OwnedFd>,
    /// UTS.
    pub uts: Option<OwnedFd>,
    /// An rtnetlink socket of the network namespace.
    pub route: Option<OwnedFd>,
    /// What holds the PID namespace or the scope.
    pub holder: Option<Holder>,
}

/// Makes and pins what is asked for, or nothing.
///
/// The calling process may end up inside the new namespaces.
///
/// # Errors
/// Which step failed.
pub fn pin(request: &PinRequest) -> Result<Pinned, Failure> {
    let sysctls = Sysctls::check(request)?;
    let pins = &request.pins;
    let held = pins.pid.is_some() || request.scoped;
    let home = match &request.cgroup {
        Some(cgroup) if held => home(cgroup)?,
        _ => None,
    };
    let mut made = Made::default();
    let fds = match (&request.ids, &pins.user) {
        (Some(ids), Some(_)) => {
            let namespaces = owned::make(request, ids, &sysctls, home.as_ref())?;
            made.owned(request, namespaces)?
        }
        (None, None) => made.hosts(request, &sysctls, home.as_ref())?,
        _ => {
            let cause = "ids and a place for it come together";
            return Err(Failure::invalid("pin the user namespace", cause));
        }
    };
    let holder = made.keep();
    Ok(Pinned { holder, fds })
}

/// Where the holder is to be born; on v1 this process enters, and it inherits that.
fn home(cgroup: &Path) -> Result<Option<OwnedFd>, Failure> {
    let birthplace = crate::cgroups::birthplace(cgroup)?;
    if birthplace.is_none() {
        crate::cgroups::enter(cgroup)?;
    }
    Ok(birthplace)
}

/// Sets the host name. Without one of its own the pod keeps the node's, which the namespace begins
/// with.
///
/// # Errors
/// What the kernel says.
pub fn set_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Ok(());
    }
    rustix::system::sethostname(name.as_bytes()).at(FailureKind::Invalid, || {
        format!("set the host name {name:?}")
    })
}

/// Which namespaces, but those of users and PIDs, are new.
#[must_use]
pub fn flags(pins: &Pins) -> UnshareFlags {
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWNET, pins.network.is_some());
    flags.set(UnshareFlags::NEWIPC, pins.ipc.is_some());
    flags.set(UnshareFlags::NEWUTS, pins.uts.is_some());
    flags
}

/// What was made outside of this process, and nothing else; taken back when dropped.
#[derive(Default)]
struct Made(Pins);

impl Made {
    /// Namespaces that the host's user namespace owns: made by leaving this process's own.
    fn hosts(
        &mut self,
        request: &PinRequest,
        sysctls: &Sysctls,
        home: Option<&OwnedFd>,
    ) -> Result<Vec<OwnedFd>, Failure> {
        let pins = &request.pins;
        unshare(flags(pins)).at(FailureKind::System, || "make the namespaces".to_owned())?;
        let mut fds = Vec::new();
        if pins.network.is_some() {
            fds.push(loopback::up()?);
        }
        if pins.uts.is_some() {
            set_name(&request.hostname)?;
        }
        sysctls.write()?;
        self.mounts(request, |kind| format!("/proc/self/ns/{kind}"))?;
        if let Some(holder) = holder::start(request, home.map(AsFd::as_fd))? {
            fds.push(self.holder(pins, holder)?);
        }
        Ok(fds)
    }

    /// Namespaces that were made inside a user namespace of the pod's own.
    fn owned(
        &mut self,
        request: &PinRequest,
        mut namespaces: Namespaces,
    ) -> Result<Vec<OwnedFd>, Failure> {
        // First: whatever fails from here on ends it.
        let holder = namespaces.holder.take();
        self.0.holder = holder.as_ref().map(|holder| holder.name);
        let path = |fd: Option<&OwnedFd>| {
            fd.map_or_else(String::new, |fd| {
                format!("/proc/self/fd/{}", fd.as_raw_fd())
            })
        };
        if let Some(user) = &request.pins.user {
            bind(&path(namespaces.user.as_ref()), user, &mut self.0.user)?;
        }
        self.mounts(request, |kind| {
            path(match kind {
                "net" => namespaces.network.as_ref(),
                "ipc" => namespaces.ipc.as_ref(),
                _ => namespaces.uts.as_ref(),
            })
        })?;
        let mut fds: Vec<_> = namespaces.route.into_iter().collect();
        if let Some(holder) = holder {
            fds.push(self.holder(&request.pins, holder)?);
        }
        Ok(fds)
    }

    fn mounts(
        &mut self,
        request: &PinRequest,
        namespace: impl Fn(&str) -> String,
    ) -> Result<(), Failure> {
        let pins = &request.pins;
        if let Some(path) = &pins.network {
            netns_directory::share_if_field_standard(path)?;
            bind(&namespace("net"), path, &mut self.0.network)?;
        }
        if let Some(path) = &pins.ipc {
            bind(&namespace("ipc"), path, &mut self.0.ipc)?;
        }
        if let Some(path) = &pins.uts {
            bind(&namespace("uts"), path, &mut self.0.uts)?;
        }
        if let Some(path) = &pins.shm {
            mount_shm(path, &shm_options(request)?, &mut self.0.shm)?;
        }
        Ok(())
    }

    /// Waits for a holder, and pins its PID namespace where that is to be shared; its pidfd.
    fn holder(&mut self, pins: &Pins, holder: Holder) -> Result<OwnedFd, Failure> {
        self.0.holder = Some(holder.name);
        // Before anybody can get into its namespace.
        holder.wait_until_ready()?;
        if let Some(path) = &pins.pid {
            let namespace = format!("/proc/{}/ns/pid", holder.name.pid);
            bind(&namespace, path, &mut self.0.pid)?;
        }
        Ok(holder.pidfd)
    }

    fn keep(mut self) -> Option<ProcessName> {
        let holder = std::mem::take(&mut self.0).holder;
        std::mem::forget(self);
        holder
    }
}

/// The pod's own root owns it, by the host's number.
fn shm_options(request: &PinRequest) -> Result<String, Failure> {
    let size = request.shm_size;
    let Some(ids) = &request.ids else {
        return Ok(format!("size={size},mode=1777"));
    };
    let (uid, gid) = (ids.user(0)?, ids.group(0)?);
    Ok(format!("size={size},mode=1777,uid={uid},gid={gid}"))
}

impl Drop for Made {
    fn drop(&mut self) {
        // The failure that led here is the one to be told.
        let _ = unpin::unpin(&self.0);
    }
}

/// Binds a namespace to a new file, which is noted as ours when we have made it: one that is there
/// is another pod's.
fn bind(namespace: &str, path: &Path, ours: &mut Option<PathBuf>) -> Result<(), Failure> {
    let step = || format!("pin {namespace} at {}", path.display());
    make_parent(path)?;
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o444)) {
        Err(Errno::EXIST) => return Err(Failure::invalid(step(), THERE)),
        other => drop(other.at(FailureKind::System, step)?),
    }
    *ours = Some(path.to_owned());
    rustix::mount::mount_bind(namespace, path).at(FailureKind::Mount, step)
}

/// As [`bind`]. A directory that is there already is taken as long as nothing is mounted on it.
fn mount_shm(path: &Path, options: &str, ours: &mut Option<PathBuf>) -> Result<(), Failure> {
    let step = || format!("mount /dev/shm at {}", path.display());
    std::fs::create_dir_all(path).at(FailureKind::System, step)?;
    if is_mounted(path).at(FailureKind::System, step)? {
        return Err(Failure::invalid(step(), THERE));
    }
    *ours = Some(path.to_owned());
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = CString::new(options).unwrap_or_default();
    rustix::mount::mount("shm", path, "tmpfs", flags, options.as_c_str())
        .at(FailureKind::Mount, step)
}

fn is_mounted(path: &Path) -> Result<bool, Errno> {
    let mask = StatxFlags::BASIC_STATS;
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, mask)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn make_parent(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).at(FailureKind::System, || {
        format!("make the directory {}", parent.display())
    })
}
