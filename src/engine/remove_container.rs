//! RemoveContainer: by force where it runs; then its shim, its directory and its record.

use super::Engine;
use super::objects::ContainerCell;
use crate::error::Result;
use crate::task::TaskError;
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Takes a container away, by force where it runs. Of one that does not exist nothing is to do.
    ///
    /// # Errors
    /// Where it does not end, or the disk refuses; it can be asked again.
    pub async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        match self.objects.container(id)? {
            Some(cell) => self.remove(&cell).await,
            None => Ok(()),
        }
    }

    pub(super) async fn remove(&self, cell: &Arc<ContainerCell>) -> Result<()> {
        let _alone = cell.gate.lock().await;
        self.stop(cell, Duration::ZERO).await?;
        let container = cell.record();
        if let Some(task) = cell.task() {
            task.shutdown().await.or_else(|error| match error {
                // It has gone by itself; nothing of it is left to be ended.
                TaskError::Gone { .. } => Ok(()),
                other => Err(other),
            })?;
            cell.set_task(None);
        }
        self.forget_container(&container.id).await?;
        self.objects.remove_container(&container.id);
        self.ports.images.release(&container.id);
        tracing::info!(container.id = %container.id, "container is removed");
        Ok(())
    }
}
