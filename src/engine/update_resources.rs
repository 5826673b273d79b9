//! UpdateContainerResources and UpdatePodSandboxResources.

use super::objects::{ContainerCell, SandboxCell};
use super::{Engine, blocking, detached};
use crate::error::{Context, Error, Kind, Result};
use crate::model::host::HostFacts;
use crate::model::resources::{self, Resources};
use crate::model::sandbox::{Sandbox, SandboxState};
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
        let before = &container.resources;
        let failed = |e: Error| e.during(format!("set limits of container {id}"));
        let set = async |limits: Resources| {
            let text = encoded(&limits, &self.node.host)?;
            task.update(text).await.map_err(Error::from)
        };
        set(before.change_to(&resources)).await.map_err(failed)?;
        let changed = cell.change(|container| container.resources.overlay(&resources));
        let Err(unsaved) = self.save_container(changed).await else {
            return Ok(());
        };
        // What a restart would not know of must not be in force.
        cell.change(|container| container.resources = before.clone());
        if let Err(error) = set(before.change_back_from(&resources)).await {
            tracing::warn!(container.id = %id, error = error.chain(), "limits could not be set back");
        }
        Err(failed(unsaved))
    }

    /// Keeps a pod's new limits. A cgroup of the kubelet's has them already: the kubelet sets them
    /// there before it tells. In one of Corten's own they are set.
    ///
    /// # Errors
    /// `NotFound`; else which file refused which value, and nothing has changed.
    pub async fn update_pod_sandbox_resources(
        self: &Arc<Self>,
        id: &str,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        let cell = self.objects.sandbox(id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no sandbox {id}")))?;
        let engine = Arc::clone(self);
        detached(async move { engine.update_pod(&cell, overhead, resources).await }).await
    }

    async fn update_pod(
        &self,
        cell: &SandboxCell,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        // Shared with creates; a stop or a removal has come before, or comes after.
        let _shared = cell.gate.read().await;
        let _alone = cell.resizing.lock().await;
        let old = cell.record();
        let id = &old.id;
        if self.objects.sandbox(id.as_str())?.is_none() {
            return Err(Error::not_found(format!(
                "sandbox {id} was removed meanwhile"
            )));
        }
        let failed = |e: Error| e.during(format!("set limits of sandbox {id}"));
        let mut new = Sandbox::clone(&old);
        new.config.overhead = overhead.or(new.config.overhead);
        new.config.resources = resources.or(new.config.resources);
        let before = in_all(&old);
        let after = in_all(&new);
        self.limit_own_cgroup(&old, before.change_to(&after))
            .await
            .map_err(failed)?;
        let (overhead, resources) = (new.config.overhead.clone(), new.config.resources.clone());
        if let Err(unsaved) = self.save_sandbox(Arc::new(new)).await {
            let back = before.change_back_from(&after);
            if let Err(error) = self.limit_own_cgroup(&old, back).await {
                tracing::warn!(sandbox.id = %id, error = error.chain(), "limits could not be set back");
            }
            return Err(failed(unsaved));
        }
        cell.change(|sandbox| {
            sandbox.config.overhead = overhead;
            sandbox.config.resources = resources;
        });
        Ok(())
    }

    /// Sets the limits of a ready pod whose cgroup is Corten's own; it is made where no container
    /// has brought it yet, and goes with the pod.
    async fn limit_own_cgroup(&self, sandbox: &Sandbox, limits: Resources) -> Result<()> {
        let ready = sandbox.state == SandboxState::Ready;
        let Some(cgroup) = spec::own_cgroup(sandbox).filter(|_| ready) else {
            return Ok(());
        };
        if limits == Resources::default() {
            return Ok(());
        }
        let text = encoded(&limits, &self.node.host)?;
        let cgroups = Arc::clone(&self.ports.cgroups);
        blocking(move || Ok(cgroups.limit(&cgroup, &text)?)).await
    }
}

/// What a pod may use in all.
fn in_all(sandbox: &Sandbox) -> Resources {
    let or_none = |part: &Option<Resources>| part.clone().unwrap_or_default();
    resources::of_pod(
        &or_none(&sandbox.config.overhead),
        &or_none(&sandbox.config.resources),
    )
}

/// The JSON of an OCI `LinuxResources`.
fn encoded(limits: &Resources, host: &HostFacts) -> Result<String> {
    let limits = spec::linux_resources(limits, host)?;
    serde_json::to_string(&limits).context(Kind::Internal, || "encode the limits".to_owned())
}
