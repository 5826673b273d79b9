//! Taking back what was made, whole or half: driven by the record alone, so the same code serves a
//! failed create and a restart after a kill.
//!
//! Each step passes over what is not there. Errors are told and the next step is tried; where
//! something is left, the record stays, and it is tried again in the background and at every start.

use super::Engine;
use super::backoff::Backoff;
use super::objects::SandboxCell;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::model::container::Container;
use crate::model::sandbox::{Release, Sandbox};
use crate::model::spec;
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Takes back a sandbox that is not to be. What cannot be taken back now is tried again in the
    /// background until it is.
    pub(super) async fn undo_sandbox(self: &Arc<Self>, sandbox: &Sandbox, limit: Duration) {
        let mut sandbox = sandbox.clone();
        sandbox.release = Release::Removed;
        let cell = Arc::new(SandboxCell::new(sandbox));
        self.tear_down(&cell, limit).await;
    }

    /// A pod's cgroup is the kubelet's to remove, but where the kubelet gave none.
    pub(super) async fn remove_own_cgroup(&self, sandbox: &Sandbox) -> Result<()> {
        let Some(cgroup) = spec::own_cgroup(sandbox) else {
            return Ok(());
        };
        let cgroups = Arc::clone(&self.ports.cgroups);
        super::blocking(move || Ok(cgroups.remove(&cgroup)?)).await
    }

    /// Takes a sandbox's files and record away.
    pub(super) async fn forget_sandbox(&self, sandbox: &Sandbox) -> Result<()> {
        let (store, id, dir) = (
            Arc::clone(&self.ports.store),
            sandbox.id.clone(),
            self.pod_dir(&sandbox.id),
        );
        super::blocking(move || {
            match std::fs::remove_dir_all(&dir) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::internal(format!("remove {}", dir.display())).caused_by(e));
                }
                _ => {}
            }
            Ok(store.remove_sandbox(&id)?)
        })
        .await
    }

    /// Takes back a container that is not to be, as persistently.
    pub(super) async fn undo_container(self: &Arc<Self>, container: &Container) {
        let (engine, container) = (Arc::clone(self), Arc::new(container.clone()));
        let id = container.id.to_string();
        persist(id, move || {
            let (engine, container) = (Arc::clone(&engine), Arc::clone(&container));
            async move {
                engine.discard_container(&container).await?;
                // Only now: its layers may have been mounted until here.
                engine.ports.images.release(&container.id);
                Ok(())
            }
        })
        .await;
    }

    /// Ends whatever of a container still runs, and takes its directory away.
    async fn discard_container(&self, container: &Container) -> Result<()> {
        match self.ports.tasks.reconnect(&container.id).await? {
            Some(launched) => launched.task.shutdown().await?,
            None => self.end_without_shim(container).await?,
        }
        self.forget_container(&container.id).await
    }

    /// Takes a container's directory away, and what a killed shim has left.
    pub(super) async fn forget_container(&self, id: &ContainerId) -> Result<()> {
        self.ports.tasks.forget(id)?;
        let (store, id) = (Arc::clone(&self.ports.store), id.clone());
        super::blocking(move || Ok(store.remove_container(&id)?)).await
    }

    /// Kills what a container whose shim has gone left running, and removes its cgroup.
    pub(super) async fn end_without_shim(&self, container: &Container) -> Result<()> {
        if container.cgroup.is_empty() {
            return Ok(());
        }
        let (cgroups, cgroup) = (Arc::clone(&self.ports.cgroups), container.cgroup.clone());
        super::blocking(move || {
            cgroups.kill_all(&cgroup)?;
            Ok(cgroups.remove(&cgroup)?)
        })
        .await
    }
}

/// Tries once; where that fails, goes on trying in the background, ever more rarely.
async fn persist<F>(id: String, attempt: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = Result<()>> + Send,
{
    let Err(error) = attempt().await else { return };
    tracing::warn!(
        id,
        error = error.chain(),
        "not undone; it is tried again until it is"
    );
    tokio::spawn(async move {
        let mut backoff = Backoff::default();
        loop {
            tokio::time::sleep(backoff.pause()).await;
            match attempt().await {
                Ok(()) => return tracing::info!(id, "undone at last"),
                Err(error) => tracing::debug!(id, error = error.chain(), "still not undone"),
            }
        }
    });
}
