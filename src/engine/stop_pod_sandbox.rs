//! StopPodSandbox: containers killed, network and namespaces given back; then NotReady.

use super::objects::SandboxCell;
use super::{Engine, detached};
use crate::error::Result;
use crate::model::sandbox::{Namespaces, Sandbox, SandboxState};
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Ends a sandbox: its containers are killed, its addresses are free again. Of one that does
    /// not exist or was stopped before, nothing is to do.
    ///
    /// # Errors
    /// Where the network or a namespace could not be given back: the sandbox is not ready any more,
    /// and can be stopped again.
    pub async fn stop_pod_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Some(cell) = self.objects.sandbox(id)? else {
            return Ok(());
        };
        let engine = Arc::clone(self);
        detached(async move { engine.stop_sandbox(&cell).await }).await
    }

    pub(super) async fn stop_sandbox(self: &Arc<Self>, cell: &Arc<SandboxCell>) -> Result<()> {
        // Only another stop waits for this one.
        let _alone = cell.teardown.lock().await;
        let sandbox = self.close_sandbox(cell).await?;
        if sandbox.network.is_none() && sandbox.namespaces == Namespaces::default() {
            return Ok(());
        }
        let containers = self.objects.containers_of(&sandbox.id);
        let stops = containers.iter().map(|c| self.stop(c, Duration::ZERO));
        futures::future::try_join_all(stops).await?;
        self.release_sandbox(&sandbox).await?;
        let stopped = cell.change(|sandbox| {
            sandbox.network = None;
            sandbox.namespaces = Namespaces::default();
        });
        self.save_sandbox(stopped).await?;
        tracing::info!(sandbox.id = %sandbox.id, "sandbox is stopped");
        Ok(())
    }

    /// From now on no container is made in it: whoever makes one has done so.
    pub(super) async fn close_sandbox(&self, cell: &Arc<SandboxCell>) -> Result<Arc<Sandbox>> {
        let _alone = cell.gate.write().await;
        if cell.record().state != SandboxState::Ready {
            return Ok(cell.record());
        }
        let closed = cell.change(|sandbox| sandbox.state = SandboxState::NotReady);
        self.save_sandbox(Arc::clone(&closed)).await?;
        Ok(closed)
    }
}
