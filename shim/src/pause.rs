//! `corten-shim pause`: PID 1 of a PID namespace that a pod's containers share.
//!
//! It reaps what falls to it, and does nothing else. Its end ends the namespace, so only those
//! outside of it may ask for that: a container that sends SIGTERM to PID 1 is not heard.
//!
//! Invariant: it has no capability, no descriptor but `/dev/null` and opens none, and containers
//! can neither trace it nor open what `/proc/1/exe` and `/proc/1/fd` lead to.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::sys::signals::{self, Arrived};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;

const HEARD: [i32; 3] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT];

/// Holds the namespace until someone outside of it ends it.
///
/// # Errors
/// When it cannot become what it is to be.
pub fn run() -> Result<(), Failure> {
    let step = || "become the holder".to_owned();
    // Before all else: those who are in the namespace see this process from here on.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at(FailureKind::System, step)?;
    signals::hold(&HEARD).at(FailureKind::System, step)?;
    give_up().at(FailureKind::System, step)?;
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

fn give_up() -> Result<(), rustix::io::Errno> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)
}
