//! The namespaces of a pod that has a user namespace of its own, which owns them all: so the pod's
//! root has power over the pod's network, and over nothing of the host's.
//!
//! ```text
//! sandbox                         inside
//! makes the user namespace
//! fork ─────────────────────────▶ joins it, unshares net, ipc, uts; lo up, host name, sysctls;
//!                                 becomes the pod's root; starts the holder
//! ◀────────────────────────────── Begun + the namespaces, the rtnetlink socket, the holder
//! pins what came                  exits
//! ```
//! Only the one outside may mount on the host; only the one inside makes what the pod owns.

use super::holder::{self, Holder};
use super::loopback;
use super::pin::{self, Namespaces};
use super::sysctl::Sysctls;
use crate::api::{Failure, FailureKind, IdMaps, PinRequest, ProcessName};
use crate::failure::At;
use crate::packet;
use crate::parent::pair;
use crate::sys::clone::{clone3, unshare};
use crate::userns::{self, UserNamespace};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};

/// What the one inside has made; the descriptors travel in the order in which [`sort`] takes them.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    holder: Option<ProcessName>,
}

/// Makes the namespaces of a request, owned by a new user namespace with these ids. `home` is the v2
/// cgroup that the holder is to be born in.
///
/// # Errors
/// Which step failed; what was made ends with its descriptors.
pub fn make(
    request: &PinRequest,
    ids: &IdMaps,
    sysctls: &Sysctls,
    home: Option<&OwnedFd>,
) -> Result<Namespaces, Failure> {
    let step = || "make the pod's namespaces".to_owned();
    let user = userns::make(ids)?;
    let (ours, theirs) = pair()?;
    // Whoever has become the pod's root has no way into a cgroup: the holder inherits this.
    let inside = clone3(0, home.map(AsFd::as_fd), || {
        main(request, &user, sysctls, &theirs)
    })
    .at(FailureKind::System, step)?;
    drop(theirs);
    let received = packet::receive::<Result<Begun, Failure>>(&ours);
    let wait = || waitid(WaitId::PidFd(inside.pidfd.as_fd()), WaitIdOptions::EXITED);
    rustix::io::retry_on_intr(wait).at(FailureKind::System, step)?;
    let lost = || Failure::invalid(step(), "the process inside ended without a word");
    let received = received.at(FailureKind::System, step)?.ok_or_else(lost)?;
    let Begun { holder } = received.message?;
    let mut fds = received.fds.into_iter();
    sort(request, holder, user, &mut fds).ok_or_else(lost)
}

/// The descriptors, in the order in which [`begin`] gives them.
fn sort(
    request: &PinRequest,
    holder: Option<ProcessName>,
    user: UserNamespace,
    fds: &mut impl Iterator<Item = OwnedFd>,
) -> Option<Namespaces> {
    let mut made = Namespaces {
        user: Some(user.fd),
        ..Namespaces::default()
    };
    if request.pins.network.is_some() {
        made.network = Some(fds.next()?);
        made.route = Some(fds.next()?);
    }
    if request.pins.ipc.is_some() {
        made.ipc = Some(fds.next()?);
    }
    if request.pins.uts.is_some() {
        made.uts = Some(fds.next()?);
    }
    if let Some(name) = holder {
        made.holder = Some(Holder {
            name,
            pidfd: fds.next()?,
            report: fds.next()?,
        });
    }
    Some(made)
}

fn main(request: &PinRequest, user: &UserNamespace, sysctls: &Sysctls, socket: &OwnedFd) -> i32 {
    let begun = begin(request, user, sysctls);
    let (answer, fds) = match begun {
        Ok((begun, fds)) => (Ok(begun), fds),
        Err(failure) => (Err(failure), Vec::new()),
    };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    i32::from(packet::send(socket, &answer, &fds).is_err())
}

fn begin(
    request: &PinRequest,
    user: &UserNamespace,
    sysctls: &Sysctls,
) -> Result<(Begun, Vec<OwnedFd>), Failure> {
    let pins = &request.pins;
    userns::join(user)?;
    unshare(pin::flags(pins)).at(FailureKind::System, || "make the namespaces".to_owned())?;
    let mut fds = Vec::new();
    if pins.network.is_some() {
        let route = loopback::up()?;
        fds.extend([own("net")?, route]);
    }
    if pins.ipc.is_some() {
        fds.push(own("ipc")?);
    }
    if pins.uts.is_some() {
        pin::set_name(&request.hostname)?;
        fds.push(own("uts")?);
    }
    // Kernels before 6.10 let the host's root alone write those of IPC, newer ones the namespace's.
    let early = sysctls.write();
    userns::become_root()?;
    early.or_else(|_| sysctls.write())?;
    let Some(Holder {
        name,
        pidfd,
        report,
    }) = holder::start(request, None)?
    else {
        return Ok((Begun { holder: None }, fds));
    };
    fds.extend([pidfd, report]);
    Ok((Begun { holder: Some(name) }, fds))
}

fn own(kind: &str) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/self/ns/{kind}");
    rustix::fs::open(&*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(FailureKind::System, || format!("open {path}"))
}
