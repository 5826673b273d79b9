//! Makes a pod's namespaces and pins them.

use super::holder::{self, Holder};
use super::sysctl::Sysctls;
use super::{loopback, netns_directory, unpin};
use crate::api::{Failure, FailureKind, PinRequest, Pins, ProcessName};
use crate::failure::At;
use crate::sys::clone::unshare;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::path::Path;

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
    if let (Some(cgroup), Some(_)) = (&request.cgroup, &pins.pid) {
        crate::cgroups::enter(cgroup)?;
    }
    unshare(flags(pins)).at(FailureKind::System, || "make the namespaces".to_owned())?;
    let mut fds = Vec::new();
    if pins.network.is_some() {
        fds.push(loopback::up()?);
    }
    if pins.uts.is_some() {
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
        .map(|path| made.holder(path))
        .transpose()?;
    let (holder, pidfd) = holder
        .map(|Holder { name, pidfd, .. }| (name, pidfd))
        .unzip();
    fds.extend(pidfd);
    made.keep();
    Ok(Pinned { holder, fds })
}

fn flags(pins: &Pins) -> UnshareFlags {
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWNET, pins.network.is_some());
    flags.set(UnshareFlags::NEWIPC, pins.ipc.is_some());
    flags.set(UnshareFlags::NEWUTS, pins.uts.is_some());
    flags
}

/// What was made outside of this process; taken back when dropped.
#[derive(Default)]
struct Made(Pins);

impl Made {
    fn mounts(&mut self, request: &PinRequest) -> Result<(), Failure> {
        let pins = &request.pins;
        if let Some(path) = &pins.network {
            netns_directory::share_if_field_standard(path)?;
            self.0.network = Some(path.clone());
            bind("/proc/self/ns/net", path)?;
        }
        if let Some(path) = &pins.ipc {
            self.0.ipc = Some(path.clone());
            bind("/proc/self/ns/ipc", path)?;
        }
        if let Some(path) = &pins.uts {
            self.0.uts = Some(path.clone());
            bind("/proc/self/ns/uts", path)?;
        }
        if let Some(path) = &pins.shm {
            self.0.shm = Some(path.clone());
            mount_shm(path, request.shm_size)?;
        }
        Ok(())
    }

    fn holder(&mut self, path: &Path) -> Result<Holder, Failure> {
        let holder = holder::start()?;
        self.0.holder = Some(holder.name);
        // Before anybody can get into its namespace.
        holder.wait_until_ready()?;
        self.0.pid = Some(path.to_owned());
        bind(&format!("/proc/{}/ns/pid", holder.name.pid), path)?;
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

/// Binds a namespace to a new file.
fn bind(namespace: &str, path: &Path) -> Result<(), Failure> {
    let step = || format!("pin {namespace} at {}", path.display());
    make_parent(path)?;
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o444)) {
        Err(Errno::EXIST) => {
            return Err(Failure::invalid(
                step(),
                "it is there already: it is to be unpinned first",
            ));
        }
        other => drop(other.at(FailureKind::System, step)?),
    }
    rustix::mount::mount_bind(namespace, path).at(FailureKind::Mount, step)
}

fn mount_shm(path: &Path, size: u64) -> Result<(), Failure> {
    let step = || format!("mount /dev/shm at {}", path.display());
    std::fs::create_dir_all(path).at(FailureKind::System, step)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = CString::new(format!("size={size},mode=1777")).unwrap_or_default();
    rustix::mount::mount("shm", path, "tmpfs", flags, options.as_c_str())
        .at(FailureKind::Mount, step)
}

fn make_parent(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).at(FailureKind::System, || {
        format!("make the directory {}", parent.display())
    })
}
