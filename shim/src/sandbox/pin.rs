//! Makes a pod's namespaces and pins them.

use super::holder::{self, Holder};
use super::sysctl::Sysctls;
use super::{loopback, netns_directory, unpin};
use crate::api::{Failure, FailureKind, PinRequest, Pins, ProcessName};
use crate::failure::At;
use crate::sys::clone::unshare;
use rustix::fd::{AsFd, OwnedFd};
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
    /// The process that holds the PID namespace, where there is one.
    pub holder: Option<ProcessName>,
    /// As in [`crate::api::SandboxReply::Pinned`].
    pub fds: Vec<OwnedFd>,
}

/// Makes and pins what is asked for, or nothing.
///
/// The calling process ends up inside the new namespaces.
///
/// # Errors
/// Which step failed.
pub fn pin(request: &PinRequest) -> Result<Pinned, Failure> {
    let sysctls = Sysctls::check(request)?;
    let pins = &request.pins;
    let home = match (&request.cgroup, &pins.pid) {
        (Some(cgroup), Some(_)) => home(cgroup)?,
        _ => None,
    };
    unshare(flags(pins)).at(FailureKind::System, || "make the namespaces".to_owned())?;
    let mut fds = Vec::new();
    if pins.network.is_some() {
        fds.push(loopback::up()?);
    }
    // Without a name of its own the pod keeps the node's, which the namespace begins with.
    if pins.uts.is_some() && !request.hostname.is_empty() {
        rustix::system::sethostname(request.hostname.as_bytes())
            .at(FailureKind::Invalid, || {
                format!("set the host name {:?}", request.hostname)
            })?;
    }
    sysctls.write()?;
    let mut made = Made::default();
    made.mounts(request)?;
    let holder = pins
        .pid
        .as_deref()
        .map(|path| made.holder(path, home.as_ref()))
        .transpose()?;
    let (holder, pidfd) = holder
        .map(|Holder { name, pidfd, .. }| (name, pidfd))
        .unzip();
    fds.extend(pidfd);
    made.keep();
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

fn flags(pins: &Pins) -> UnshareFlags {
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
    fn mounts(&mut self, request: &PinRequest) -> Result<(), Failure> {
        let pins = &request.pins;
        if let Some(path) = &pins.network {
            netns_directory::share_if_field_standard(path)?;
            bind("/proc/self/ns/net", path, &mut self.0.network)?;
        }
        if let Some(path) = &pins.ipc {
            bind("/proc/self/ns/ipc", path, &mut self.0.ipc)?;
        }
        if let Some(path) = &pins.uts {
            bind("/proc/self/ns/uts", path, &mut self.0.uts)?;
        }
        if let Some(path) = &pins.shm {
            mount_shm(path, request.shm_size, &mut self.0.shm)?;
        }
        Ok(())
    }

    fn holder(&mut self, path: &Path, home: Option<&OwnedFd>) -> Result<Holder, Failure> {
        let holder = holder::start(home.map(AsFd::as_fd))?;
        self.0.holder = Some(holder.name);
        // Before anybody can get into its namespace.
        holder.wait_until_ready()?;
        let namespace = format!("/proc/{}/ns/pid", holder.name.pid);
        bind(&namespace, path, &mut self.0.pid)?;
        Ok(holder)
    }

    fn keep(self) {
        std::mem::forget(self);
    }
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
fn mount_shm(path: &Path, size: u64, ours: &mut Option<PathBuf>) -> Result<(), Failure> {
    let step = || format!("mount /dev/shm at {}", path.display());
    std::fs::create_dir_all(path).at(FailureKind::System, step)?;
    if is_mounted(path).at(FailureKind::System, step)? {
        return Err(Failure::invalid(step(), THERE));
    }
    *ours = Some(path.to_owned());
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = CString::new(format!("size={size},mode=1777")).unwrap_or_default();
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
