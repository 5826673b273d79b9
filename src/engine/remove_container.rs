//! RemoveContainer: by force where it runs; then its shim, its directory and its record.

use super::objects::ContainerCell;
use super::{Engine, detached};
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
        let Some(cell) = self.objects.container(id)? else {
            return Ok(());
        };
        let engine = Arc::clone(self);
        detached(async move { engine.remove(&cell).await }).await
    }

    pub(super) async fn remove(self: &Arc<Self>, cell: &Arc<ContainerCell>) -> Result<()> {
        // Ended before the gate is asked for: a start that hangs holds it.
        self.stop(cell, Duration::ZERO).await?;
        let _alone = cell.gate.lock().await;
        self.stop(cell, Duration::ZERO).await?;
        crate::failpoint!("remove_container/stopped");
        let container = cell.record();
        let ended = match cell.task() {
            Some(task) => task.shutdown().await,
            None => Err(TaskError::Gone {
                verb: "end the shim",
            }),
        };
        match ended {
            // It has gone by itself, or was killed: nobody else has looked after its remains.
            Err(TaskError::Gone { .. }) => self.end_without_shim(&container).await?,
            other => other?,
        }
        cell.set_task(None);
        crate::failpoint!("remove_container/shim-ended");
        self.forget_container(&container.id).await?;
        crate::failpoint!("remove_container/forgotten");
        self.objects.remove_container(&container.id);
        self.ports.images.release(&container.id);
        tracing::info!(container.id = %container.id, "container is removed");
        Ok(())
    }
}
