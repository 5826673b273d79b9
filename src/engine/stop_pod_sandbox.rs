//! StopPodSandbox: NotReady; then containers killed, network and namespaces given back.

use super::objects::SandboxCell;
use super::{Engine, detached};
use crate::error::Result;
use crate::model::sandbox::{Namespaces, Release, Sandbox, SandboxState};
use std::sync::Arc;
use std::time::Duration;

/// A plugin takes a tenth of a second; who stops a pod waits for one that takes longer, but not for
/// one that hangs.
pub(super) const NETWORK_TAKES: Duration = Duration::from_secs(10);

impl Engine {
    /// Ends a sandbox: its containers are killed, its addresses are free again. Of one that does
    /// not exist or was stopped before, nothing is to do.
    ///
    /// Its network and namespaces are tried once, within a limit, and in the background until they
    /// are given back: the pod is stopped all the same.
    ///
    /// # Errors
    /// Where a container does not end: it can be stopped again.
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
        let sandbox = self.close_sandbox(cell, Release::Wanted).await;
        crate::failpoint!("stop_pod_sandbox/closed");
        let containers = self.objects.containers_of(&sandbox.id);
        let stops = containers.iter().map(|c| self.stop(c, Duration::ZERO));
        futures::future::try_join_all(stops).await?;
        crate::failpoint!("stop_pod_sandbox/containers-ended");
        if sandbox.network.is_none() && sandbox.namespaces == Namespaces::default() {
            return Ok(());
        }
        self.tear_down(cell, NETWORK_TAKES).await;
        crate::failpoint!("stop_pod_sandbox/torn-down");
        tracing::info!(sandbox.id = %sandbox.id, "sandbox is stopped");
        Ok(())
    }

    /// From now on no container is made in it: whoever makes one has done so. A disk that is full
    /// keeps no pod from being stopped: a start that reads the old record finds the pins gone.
    pub(super) async fn close_sandbox(
        &self,
        cell: &Arc<SandboxCell>,
        release: Release,
    ) -> Arc<Sandbox> {
        let _alone = cell.gate.write().await;
        let sandbox = cell.record();
        if sandbox.state != SandboxState::Ready && sandbox.release >= release {
            return sandbox;
        }
        let closed = self.objects.change_sandbox(cell, |sandbox| {
            sandbox.state = SandboxState::NotReady;
            sandbox.release = sandbox.release.max(release);
        });
        if let Err(error) = self.save_sandbox(Arc::clone(&closed)).await {
            tracing::error!(sandbox.id = %closed.id, error = error.chain(), "that a sandbox is not ready any more could not be written");
        }
        closed
    }
}
