//! Giving back what a sandbox held, for as long as it takes: its network, its namespaces, its cgroup.
//!
//! ```text
//!            ┌─fails─▶ pause, ever longer ─┐
//! begin ─▶ DEL, with the namespace there ◀─┘ × PATIENCE, or the namespace is gone
//!            │   └─▶ DEL of each plugin apart, namespaces released ─fails─▶ pause ─▶ again
//!            ▼          │          └ refused × REFUSALS, no address kept
//!          namespaces released ◀───┘
//!            ▼
//!          the record says so, or goes with the sandbox
//! ```
//!
//! Nobody waits for more than one try, nor for longer than a limit. A plugin gets its chance while
//! the namespace is there: some (bridge 1.1) do not find their firewall rules without it. A plugin
//! that refuses for ever, as one does whose ADD was cut short, does not keep the pod for ever.
//!
//! Invariant: the record on disk names what is still to be given back, so a restart goes on with it.
//! For one sandbox one teardown runs, however many ask for it.

use super::Engine;
use super::backoff::Backoff;
use super::objects::SandboxCell;
use crate::error::{Error, Result};
use crate::id::SandboxId;
use crate::model::sandbox::{Namespaces, NetworkIntent, Release, Sandbox};
use crate::network::Kept;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// How often DEL is tried before the namespace is taken away: about half a minute.
const PATIENCE: u32 = 5;
/// So often in a row plugins refuse before they are believed: about four minutes, in which a network
/// add-on that is being started or updated comes back.
const REFUSALS: u32 = 8;
/// How many are tried again at once; first tries are not held back.
const AT_ONCE: usize = 4;

/// The teardowns that run.
pub struct Teardowns {
    running: Mutex<HashMap<SandboxId, Running>>,
    again: Semaphore,
}

/// One of them, as those see it who ask for it.
#[derive(Clone)]
struct Running {
    /// How often it has failed; closed when it is done.
    failures: watch::Receiver<u32>,
    /// Ends the pause between two tries.
    now: Arc<Notify>,
}

impl Default for Teardowns {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            again: Semaphore::new(AT_ONCE),
        }
    }
}

impl Teardowns {
    fn running(&self) -> MutexGuard<'_, HashMap<SandboxId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Gives back what the sandbox holds. Returns when that is done, when one more try has failed,
    /// or after `limit`: it goes on by itself until it is done.
    pub(super) async fn tear_down(self: &Arc<Self>, cell: &Arc<SandboxCell>, limit: Duration) {
        let mut running = self.begin_teardown(cell);
        if *running.failures.borrow_and_update() > 0 {
            running.now.notify_one();
        }
        let tried = running.failures.changed();
        if tokio::time::timeout(limit, tried).await.is_err() {
            tracing::warn!(sandbox.id = %cell.record().id, "the pod's network is still being taken down; nobody waits for it");
        }
    }

    fn begin_teardown(self: &Arc<Self>, cell: &Arc<SandboxCell>) -> Running {
        let begin = || {
            let (told, failures) = watch::channel(0);
            let now = Arc::new(Notify::new());
            let teardown = Teardown {
                engine: Arc::clone(self),
                cell: Arc::clone(cell),
                now: Arc::clone(&now),
                failures: 0,
                refusals: 0,
            };
            tokio::spawn(teardown.run(told));
            Running { failures, now }
        };
        let id = cell.record().id.clone();
        let mut running = self.teardowns.running();
        running.entry(id).or_insert_with(begin).clone()
    }
}

/// One sandbox's.
struct Teardown {
    engine: Arc<Engine>,
    cell: Arc<SandboxCell>,
    now: Arc<Notify>,
    failures: u32,
    /// Refusals in a row since the namespace is gone.
    refusals: u32,
}

impl Teardown {
    async fn run(mut self, told: watch::Sender<u32>) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.attempt().await {
            self.failures += 1;
            self.tell(&error);
            told.send_replace(self.failures);
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                () = self.now.notified() => {}
            }
        }
        if self.failures > 0 {
            let tries = self.failures + 1;
            tracing::info!(sandbox.id = %self.cell.record().id, tries, "what the sandbox held is given back at last");
        }
    }

    /// Once, and again when the manner changes: what fails for an hour is no news.
    fn tell(&self, error: &Error) {
        let (id, failures) = (&self.cell.record().id, self.failures);
        let error = error.chain();
        match failures {
            1 => {
                tracing::warn!(sandbox.id = %id, error, "not given back yet; it is tried again until it is");
            }
            PATIENCE => {
                tracing::warn!(sandbox.id = %id, error, "not given back yet; the namespaces go now");
            }
            _ => tracing::debug!(sandbox.id = %id, error, failures, "still not given back"),
        }
    }

    async fn attempt(&mut self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        let _turn = match self.failures {
            0 => None,
            // Never closed.
            _ => engine.teardowns.again.acquire().await.ok(),
        };
        let sandbox = self.cell.record();
        if let Some(intent) = &sandbox.network {
            self.disconnect(&sandbox, intent).await?;
        }
        crate::failpoint!("stop_pod_sandbox/disconnected");
        engine.ports.tasks.unpin(&sandbox.namespaces).await?;
        crate::failpoint!("stop_pod_sandbox/unpinned");
        engine.end_scope(&sandbox).await?;
        engine.remove_own_cgroup(&sandbox).await?;
        self.finish().await
    }

    async fn disconnect(&mut self, sandbox: &Sandbox, intent: &NetworkIntent) -> Result<()> {
        let networks = &self.engine.ports.networks;
        let has_namespace = self.has_namespace(sandbox);
        if self.failures < PATIENCE && has_namespace {
            return networks.remove(sandbox, intent).await;
        }
        let removed = networks.remove_apart(sandbox, intent).await;
        self.engine.ports.tasks.unpin(&sandbox.namespaces).await?;
        match removed {
            Ok(()) => Ok(()),
            Err(Kept::Refused(error)) if !has_namespace => {
                self.refused(sandbox, intent, error).await
            }
            Err(Kept::Refused(error) | Kept::Failed(error)) => {
                self.refusals = 0;
                Err(error)
            }
        }
    }

    fn has_namespace(&self, sandbox: &Sandbox) -> bool {
        let namespaces = &sandbox.namespaces;
        namespaces.network.is_some() && self.engine.ports.tasks.is_pinned(namespaces)
    }

    async fn refused(
        &mut self,
        sandbox: &Sandbox,
        intent: &NetworkIntent,
        error: Error,
    ) -> Result<()> {
        self.refusals += 1;
        if self.refusals < REFUSALS {
            return Err(error);
        }
        tracing::warn!(
            sandbox.id = %sandbox.id,
            error = error.chain(),
            "a CNI plugin refuses to take down a network whose namespace is gone; its addresses are free, and it is taken as done"
        );
        self.engine.ports.networks.forget(sandbox, intent).await
    }

    /// Under the gate, so that a removal either finds it done or is found by it.
    async fn finish(&self) -> Result<()> {
        let _alone = self.cell.gate.write().await;
        let sandbox = self.cell.record();
        crate::failpoint!("stop_pod_sandbox/released");
        if sandbox.release == Release::Removed {
            self.engine.forget_sandbox(&sandbox).await?;
        } else {
            let released = self.cell.change(|sandbox| {
                sandbox.network = None;
                sandbox.namespaces = Namespaces::default();
                sandbox.scope = None;
            });
            self.engine.save_sandbox(released).await?;
        }
        self.engine.teardowns.running().remove(&sandbox.id);
        Ok(())
    }
}
