//! `corten-shim pause`: PID 1 of a PID namespace that a pod's containers share, or, where they share
//! none, the process without which systemd would take a pod's scope for done.
//!
//! It reaps what falls to it, and does nothing else. Its end ends the namespace, so only those
//! outside of it may ask for that: a container that sends SIGTERM to PID 1 is not heard.
//!
//! It says when it is what it is to be, and nobody is let into its namespace before: a container
//! that may trace (CAP_SYS_PTRACE) reaches what this process reaches, by `/proc/1/root` and the like.
//!
//! Invariant: from its report on it has no capability, nor a way to any, no descriptor but
//! `/dev/null`, and an empty read-only root in a mount namespace of its own.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::init::mounts::{attach_root, detach_from_host, let_go_of_host, pivot};
use crate::init::process::drop_bounding;
use crate::sys::clone::unshare;
use crate::sys::signals::{self, Arrived};
use crate::{filesystem, packet};
use rustix::fd::OwnedFd;
use rustix::mount::MountAttrFlags;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use std::io;
use std::path::Path;

const HEARD: [i32; 3] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT];

/// Reports at the socket, as a `Result<(), Failure>`, and holds the namespace until someone outside
/// of it ends it.
///
/// # Errors
/// When it cannot become what it is to be, or cannot hear of an end.
pub fn run(socket: OwnedFd) -> Result<(), Failure> {
    let become_holder = prepare();
    let report = packet::send(&socket, &become_holder, &[]);
    drop(socket);
    become_holder?;
    report.at(FailureKind::System, step)?;
    hold()
}

fn step() -> String {
    "become the holder".to_owned()
}

fn prepare() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at(FailureKind::System, step)?;
    signals::hold(&HEARD).at(FailureKind::System, step)?;
    leave_host()?;
    give_up()
}

/// Moves into an empty root, and lets go of the host's with all of its mounts.
fn leave_host() -> Result<(), Failure> {
    unshare(UnshareFlags::NEWNS).at(FailureKind::System, step)?;
    detach_from_host()?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let data = [
        ("size", Some("4k")),
        ("nr_inodes", Some("1")),
        ("mode", Some("555")),
    ];
    let empty = filesystem::make("tmpfs", "empty", &data, attributes)?;
    // Any directory will do that every host has; nobody sees what it covers.
    let root = attach_root(&empty, Path::new("/proc"))?;
    pivot(&root)?;
    let_go_of_host(&root, None)
}

fn hold() -> Result<(), Failure> {
    loop {
        match signals::wait(&HEARD) {
            Ok(Arrived {
                signal: libc::SIGCHLD,
                ..
            }) => drop(crate::reaper::reap_all(None)),
            Ok(arrived) if is_from_outside(arrived) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).at(FailureKind::System, step),
        }
    }
}

/// PID 1 sees senders of its own namespace by their pid, and those outside as 0. One that is not
/// PID 1 holds no namespace: anybody may end it.
fn is_from_outside(arrived: Arrived) -> bool {
    arrived.sender == 0 || !rustix::process::getpid().is_init()
}

fn give_up() -> Result<(), Failure> {
    drop_bounding(0)?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets).at(FailureKind::System, step)?;
    rustix::thread::set_no_new_privs(true).at(FailureKind::System, step)
}
