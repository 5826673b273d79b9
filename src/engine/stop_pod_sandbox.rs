//! StopPodSandbox: containers killed, network and namespaces given back; then NotReady.

use super::Engine;
use super::objects::SandboxCell;
use crate::error::Result;
use crate::model::sandbox::{Namespaces, SandboxState};
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Ends a sandbox: its containers are killed, its addresses are free again. Of one that does
    /// not exist or was stopped before, nothing is to do.
    ///
    /// # Errors
    /// Where the network or a namespace could not be given back: the sandbox is then still ready
    /// to be stopped again.
    pub async fn stop_pod_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        match self.objects.sandbox(id)? {
            Some(cell) => self.stop_sandbox(&cell).await,
            None => Ok(()),
        }
    }

    pub(super) async fn stop_sandbox(self: &Arc<Self>, cell: &Arc<SandboxCell>) -> Result<()> {
        // Whoever makes a container in it has done so, or will find it stopped.
        let _alone = cell.gate.write().await;
        let sandbox = cell.record();
        if sandbox.state == SandboxState::NotReady && sandbox.network.is_none() {
            return Ok(());
        }
        let containers = self.objects.containers_of(&sandbox.id);
        let stops = containers.iter().map(|c| self.stop(c, Duration::ZERO));
        futures::future::try_join_all(stops).await?;
        self.release_sandbox(&sandbox).await?;
        let stopped = cell.change(|sandbox| {
            sandbox.state = SandboxState::NotReady;
            sandbox.network = None;
            sandbox.namespaces = Namespaces::default();
        });
        self.save_sandbox(stopped).await?;
        tracing::info!(sandbox.id = %sandbox.id, "sandbox is stopped");
        Ok(())
    }
}
