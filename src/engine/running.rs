//! What runs can be executed in, attached to and forwarded to; of the rest it is said in which state
//! it is, and what a person can do.

use super::Engine;
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerState, Exit};
use crate::model::sandbox::{Sandbox, SandboxState};
use std::sync::Arc;

impl Engine {
    /// A container that runs.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` with its state where it does not.
    pub(super) fn running(&self, id: &str) -> Result<Arc<Container>> {
        let container = self.container_status(id)?;
        match idle(&container) {
            None => Ok(container),
            Some(state) => Err(Error::precondition(format!(
                "container {} ({}) does not run: it {state}",
                container.id, container.config.metadata.name
            ))),
        }
    }
}

/// What is said of a container that does not run.
fn idle(container: &Container) -> Option<String> {
    let id = container.id.as_str();
    match &container.state {
        ContainerState::Running => None,
        ContainerState::Creating => Some("is being created; try again in a moment".to_owned()),
        ContainerState::Created => Some(format!(
            "was created and not started; start it first (`crictl start {id}`)"
        )),
        ContainerState::Exited(Exit { code, reason, .. }) => Some(format!(
            "has exited with code {code} ({reason}); its log may tell why (`crictl logs {id}`), and it runs no more: take the container that came after it (`crictl ps`)"
        )),
    }
}

/// # Errors
/// `FailedPrecondition` where a sandbox is not ready.
pub(super) fn ready(sandbox: &Sandbox) -> Result<()> {
    let state = match sandbox.state {
        SandboxState::Ready => return Ok(()),
        SandboxState::Creating => "is being made; try again in a moment",
        SandboxState::NotReady => {
            "was stopped or has ended, and comes back no more: take the pod that came after it (`crictl pods --state ready`)"
        }
    };
    let who = &sandbox.config.metadata;
    Err(Error::precondition(format!(
        "sandbox {} ({}/{}) is not ready: it {state}",
        sandbox.id, who.namespace, who.name
    )))
}
