//! GetContainerEvents: what happens to pods and containers, as it happens.

use super::journal::{Entry, Follower, Next};
use super::{Engine, now};
use crate::error::{Error, Kind, Result};
use crate::model::container::Container;
use crate::model::event::EventKind;
use crate::model::sandbox::Sandbox;
use std::sync::Arc;
use tokio::sync::watch;

/// Something that happened, and the whole pod just after it, or later.
#[derive(Debug, Clone)]
pub struct ContainerEvent {
    /// What.
    pub kind: EventKind,
    /// The container's id, or the sandbox's for its own events.
    pub subject: String,
    /// When, in nanoseconds since the epoch: what is told holds all that happened until then.
    pub at: i64,
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    /// Its containers, the oldest first.
    pub containers: Vec<Arc<Container>>,
}

/// One who follows; dropped it does not any more.
pub struct Following {
    engine: Arc<Engine>,
    follower: Follower,
    grown: watch::Receiver<u64>,
}

impl Engine {
    /// Follows what happens from now on, and first what happened while nobody did.
    #[must_use]
    pub fn follow_events(self: &Arc<Self>) -> Following {
        let (follower, grown) = self.objects.journal().follow(now());
        Following {
            engine: Arc::clone(self),
            follower,
            grown,
        }
    }

    /// Ends all who follow, when the daemon stops: they would never end by themselves.
    pub fn end_following(&self) {
        self.objects.journal().close();
    }
}

impl Following {
    /// Waits for what happens next; `None` when the daemon stops.
    ///
    /// # Errors
    /// `ResourceExhausted` where it took what happened so slowly that some of it is lost; the last.
    pub async fn next(&mut self) -> Option<Result<ContainerEvent>> {
        loop {
            self.grown.borrow_and_update();
            match self.engine.objects.journal().next(self.follower) {
                Next::Entry(entry) => return Some(Ok(self.whole(entry))),
                Next::Behind => return Some(Err(behind())),
                Next::Closed => return None,
                // The sender is the engine's own, so the wait cannot fail.
                Next::Wait => drop(self.grown.changed().await),
            }
        }
    }

    /// What nobody followed is told with the pod as it is now: newer than its time, never older.
    fn whole(&self, entry: Entry) -> ContainerEvent {
        let objects = &self.engine.objects;
        let id = &entry.sandbox.id;
        let (sandbox, containers) = match entry.containers {
            Some(containers) => (Arc::clone(&entry.sandbox), containers),
            None => {
                let found = objects.sandbox(id.as_str()).ok().flatten();
                let sandbox =
                    found.map_or_else(|| Arc::clone(&entry.sandbox), |cell| cell.record());
                (sandbox, objects.told_containers_of(id))
            }
        };
        ContainerEvent {
            kind: entry.kind,
            subject: entry.subject,
            at: entry.at,
            sandbox,
            containers,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.engine.objects.journal().leave(self.follower, now());
    }
}

fn behind() -> Error {
    Error::new(
        Kind::ResourceExhausted,
        "events were lost, for they came faster than they were taken: list pods and containers, then ask for events again",
    )
}
