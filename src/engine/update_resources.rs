//! UpdateContainerResources and UpdatePodSandboxResources.

use super::objects::ContainerCell;
use super::{Engine, blocking, detached};
use crate::error::{Context, Error, Kind, Result};
use crate::model::resources::Resources;
use crate::model::spec;
use std::sync::Arc;

impl Engine {
    /// Sets a container's limits; what is not set stays as it is. All or nothing.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where it has exited; else which file refused which value.
    pub async fn update_container_resources(
        self: &Arc<Self>,
        id: &str,
        resources: Resources,
    ) -> Result<()> {
        let cell = self.objects.container(id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no container {id}")))?;
        let engine = Arc::clone(self);
        detached(async move { engine.update(&cell, resources).await }).await
    }

    async fn update(&self, cell: &ContainerCell, resources: Resources) -> Result<()> {
        let _alone = cell.gate.lock().await;
        let container = cell.record();
        let id = &container.id;
        if self.objects.container(id.as_str())?.is_none() {
            return Err(Error::not_found(format!(
                "container {id} was removed meanwhile"
            )));
        }
        let task = cell.task().filter(|_| !container.has_exited());
        let task = task.ok_or_else(|| Error::precondition(format!("container {id} has exited")))?;
        let text = serde_json::to_string(&spec::linux_resources(&resources, &self.node.host)?)
            .context(Kind::Internal, || "encode the limits".to_owned())?;
        task.update(text)
            .await
            .map_err(|e| Error::from(e).during(format!("set limits of container {id}")))?;
        let changed = cell.change(|container| container.resources.overlay(&resources));
        self.save_container(changed).await
    }

    /// Keeps a pod's new limits: its cgroup is the kubelet's own, which has set them there.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn update_pod_sandbox_resources(
        self: &Arc<Self>,
        id: &str,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        let cell = self.objects.sandbox(id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no sandbox {id}")))?;
        // Shared with creates; a stop or a removal has come before, or comes after.
        let _shared = cell.gate.read().await;
        if self.objects.sandbox(id)?.is_none() {
            return Err(Error::not_found(format!(
                "sandbox {id} was removed meanwhile"
            )));
        }
        let changed = cell.change(|sandbox| {
            sandbox.config.overhead = overhead.or_else(|| sandbox.config.overhead.take());
            sandbox.config.resources = resources.or_else(|| sandbox.config.resources.take());
        });
        let store = Arc::clone(&self.ports.store);
        blocking(move || Ok(store.save_sandbox(&changed)?)).await
    }
}
