//! `corten-shim sandbox`: one request, one answer, then it ends.
//!
//! It makes a pod's namespaces by leaving its own for new ones, sets them up from inside, and pins
//! them by bind mounts, so that they outlive it. Nothing of a pod runs but, where its containers
//! share a PID namespace, the holder ([`crate::pause`]).
//!
//! Invariant: a request that fails leaves nothing behind, and no path is touched but those that
//! the request names and their missing parents.

pub mod bare;
mod holder;
mod loopback;
mod netns_directory;
mod owned;
mod pin;
mod probe;
mod sealed;
mod sysctl;
mod unpin;

use crate::api::{Failure, SandboxReply, SandboxRequest};
use crate::failure::At;
use crate::packet;
use crate::title;
use pin::Pinned;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// Answers the one request at this socket, if there comes one.
///
/// # Errors
/// When the request cannot be read, or there is nobody to answer.
pub fn run(socket: &OwnedFd) -> Result<(), Failure> {
    let kind = crate::api::FailureKind::Invalid;
    let request = packet::receive(socket).at(kind, || "read the request".to_owned())?;
    let Some(request) = request else {
        return Ok(());
    };
    // Nothing depends on it but who looks at the list of processes.
    let _ = title::take_up();
    let (reply, fds) = answer(&request.message);
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    packet::send(socket, &reply, &fds).at(kind, || "answer".to_owned())
}

fn answer(request: &SandboxRequest) -> (SandboxReply, Vec<OwnedFd>) {
    let done = match request {
        SandboxRequest::Pin(request) => {
            pin::pin(request).map(|Pinned { holder, fds }| (SandboxReply::Pinned { holder }, fds))
        }
        SandboxRequest::Unpin(pins) => {
            unpin::unpin(pins).map(|()| (SandboxReply::Unpinned, Vec::new()))
        }
        SandboxRequest::Probe(directory) => {
            let can = probe::user_namespaces(directory);
            Ok((SandboxReply::Probed(can), Vec::new()))
        }
        SandboxRequest::Seal(program) => {
            sealed::program(program).map(|sealed| (SandboxReply::Sealed, vec![sealed]))
        }
        SandboxRequest::Bare => bare::make().map(|bare| (SandboxReply::Bare, vec![bare])),
    };
    done.unwrap_or_else(|failure| (SandboxReply::Failed(failure), Vec::new()))
}
