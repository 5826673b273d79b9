//! RemovePodSandbox: stopped first, then its containers, its files and its record.

use super::objects::SandboxCell;
use super::stop_pod_sandbox::NETWORK_TAKES;
use super::{Engine, detached};
use crate::error::Result;
use crate::model::sandbox::Release;
use std::sync::Arc;

impl Engine {
    /// Takes a sandbox and all its containers away, by force where they run. Of one that does not
    /// exist nothing is to do.
    ///
    /// # Errors
    /// As [`Engine::stop_pod_sandbox`]; it can be asked again.
    pub async fn remove_pod_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Some(cell) = self.objects.sandbox(id)? else {
            return Ok(());
        };
        let engine = Arc::clone(self);
        detached(async move { engine.remove_sandbox(&cell).await }).await
    }

    /// What could not be given back yet goes on in the background, and the record with it.
    async fn remove_sandbox(self: &Arc<Self>, cell: &Arc<SandboxCell>) -> Result<()> {
        self.stop_sandbox(cell).await?;
        crate::failpoint!("remove_pod_sandbox/stopped");
        let sandbox = cell.record();
        for container in self.objects.containers_of(&sandbox.id) {
            self.remove(&container).await?;
        }
        crate::failpoint!("remove_pod_sandbox/containers-removed");
        // An update that saves its record has done so, or will find the sandbox gone.
        self.close_sandbox(cell, Release::Removed).await;
        crate::failpoint!("remove_pod_sandbox/closed");
        self.objects.remove_sandbox(&sandbox.id);
        self.tear_down(cell, NETWORK_TAKES).await;
        crate::failpoint!("remove_pod_sandbox/forgotten");
        tracing::info!(sandbox.id = %sandbox.id, "sandbox is removed");
        Ok(())
    }
}
