//! StartContainer: the shim executes the program.

use super::objects::ContainerCell;
use super::stop_container::KILL;
use super::{Engine, detached};
use crate::error::{Error, Kind, Result};
use crate::model::container::{Container, ContainerState};
use crate::task::TaskError;
use std::sync::Arc;
use std::time::Duration;

/// After a start that failed the container ends by itself, or is ended.
const NEWS_TAKES: Duration = Duration::from_secs(10);

impl Engine {
    /// Executes a created container's program.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where it is not in the created state; else why the program
    /// could not be executed: the container has then ended with code 128, `StartError`.
    pub async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let cell = self.objects.container(id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no container {id}")))?;
        let engine = Arc::clone(self);
        detached(async move {
            engine.execute(&cell).await?;
            engine.watch_health(&cell);
            Ok(())
        })
        .await
    }

    async fn execute(&self, cell: &Arc<ContainerCell>) -> Result<()> {
        let _alone = cell.gate.lock().await;
        let container = cell.record();
        if container.state != ContainerState::Created {
            return Err(wrong_state(&container));
        }
        let task = cell.task().ok_or_else(|| wrong_state(&container))?;
        crate::failpoint!("start_container/asked");
        let started_at = match task.start().await {
            Ok(time) => time,
            Err(error) => {
                if let TaskError::Slow { .. } = error {
                    // A program whose start was reported to have failed must not run later.
                    let _ = task.signal(KILL).await;
                }
                // The news of the end is on its way: who asks for the status next is to find it.
                let _ = tokio::time::timeout(NEWS_TAKES, cell.ended()).await;
                let name = &container.config.metadata.name;
                return Err(Error::from(error).during(format!("start container {name}")));
            }
        };
        let running = self.objects.change_container(cell, |container| {
            container.state = ContainerState::Running;
            container.started_at = started_at;
        });
        tracing::info!(container.id = %container.id, pid = container.pid, "container runs");
        crate::failpoint!("start_container/started");
        if let Err(error) = self.save_container(running).await {
            // The shim knows, and a restart asks it.
            tracing::warn!(container.id = %container.id, error = error.chain(), "that a container runs could not be written");
        }
        Ok(())
    }
}

fn wrong_state(container: &Container) -> Error {
    let state = match container.state {
        ContainerState::Creating => "is still being made",
        ContainerState::Created => "has lost its shim",
        ContainerState::Running => "runs already",
        ContainerState::Exited(_) => "has exited",
    };
    Error::new(
        Kind::FailedPrecondition,
        format!("container {} {state}", container.id),
    )
}
