//! ReopenContainerLog: the new file is there when the call returns.

use super::Engine;
use crate::error::{Error, Result};
use crate::model::container::ContainerState;

impl Engine {
    /// Has a running container's log opened anew, after the kubelet renamed it.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where it does not run; else why the file cannot be opened.
    pub async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let cell = self.objects.container(id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no container {id}")))?;
        let task = cell
            .task()
            .filter(|_| cell.record().state == ContainerState::Running);
        let task = task.ok_or_else(|| {
            Error::precondition(format!(
                "container {id} does not run: its log gets no more lines"
            ))
        })?;
        task.reopen_log()
            .await
            .map_err(|e| Error::from(e).during(format!("reopen the log of {id}")))
    }
}
