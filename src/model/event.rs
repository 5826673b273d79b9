//! What happens to pods and containers, as those who follow it are told.
//!
//! ```text
//! container   Creating ─Created─▶ Created ─Started─▶ Running ─Stopped─▶ Exited ─Deleted─▶ (gone)
//! sandbox     Creating ─Created, Started─▶ Ready ─Stopped─▶ NotReady ─Deleted─▶ (gone)
//! ```
//!
//! A change of a container's health is none of these, and the protocol has no other kind: who wants to
//! know of it asks for the status, or reads the daemon's figures.

use super::container::{Container, ContainerState};
use super::sandbox::SandboxState;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was made.
    Created,
    /// Its process runs; a sandbox is ready.
    Started,
    /// Its process has ended; a sandbox is not ready any more.
    Stopped,
    /// It was removed.
    Deleted,
}

/// What a change of a container means. One whose end is seen before the answer to its start has been
/// started, and is told so first.
#[must_use]
pub fn of_container(before: &Container, after: &Container) -> Vec<EventKind> {
    let is_new = before.state == ContainerState::Creating;
    let has_left = is_new && after.state != ContainerState::Creating;
    let ran = |container: &Container| match &container.state {
        ContainerState::Creating | ContainerState::Created => false,
        ContainerState::Running => true,
        ContainerState::Exited(_) => container.started_at > 0,
    };
    let steps = [
        (has_left, EventKind::Created),
        (
            ran(after) && !ran(before) && !before.has_exited(),
            EventKind::Started,
        ),
        (
            after.has_exited() && !before.has_exited(),
            EventKind::Stopped,
        ),
    ];
    let taken = steps.into_iter().filter(|(is_taken, _)| *is_taken);
    taken.map(|(_, kind)| kind).collect()
}

/// What a change of a sandbox means.
#[must_use]
pub fn of_sandbox(before: SandboxState, after: SandboxState) -> &'static [EventKind] {
    match (before, after) {
        (SandboxState::Creating, SandboxState::Ready) => &[EventKind::Created, EventKind::Started],
        (SandboxState::Ready, SandboxState::NotReady) => &[EventKind::Stopped],
        _ => &[],
    }
}
