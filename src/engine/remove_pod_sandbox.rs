//! RemovePodSandbox: stopped first, then its containers, its files and its record.

use super::Engine;
use crate::error::Result;
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
        self.stop_sandbox(&cell).await?;
        let sandbox = cell.record();
        for container in self.objects.containers_of(&sandbox.id) {
            self.remove(&container).await?;
        }
        self.forget_sandbox(&sandbox).await?;
        self.objects.remove_sandbox(&sandbox.id);
        tracing::info!(sandbox.id = %sandbox.id, "sandbox is removed");
        Ok(())
    }
}
