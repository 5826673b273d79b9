//! What containers and pods use, read from their cgroups when somebody asks.
//!
//! No collector runs in the background: the rate of CPU use comes from the two last readings, which
//! each cell keeps, and writable layers are counted by their file system or measured beside the call that
//! wants them.
//!
//! Invariant: a list holds what could be read. A container that ends while it is asked about is
//! left out, and is no error.

mod disk;
mod layers;
mod metrics;
mod network;
mod processes;
#[cfg(test)]
mod tests;

pub use layers::{Layer, Measuring};
pub use metrics::Turn;

use super::objects::{ContainerCell, Objects, SandboxCell};
use super::{Engine, blocking, now};
use crate::cgroup::{CgroupError, Cgroups};
use crate::error::{Error, Result, chain};
use crate::model::container::{Container, ContainerFilter, ContainerState};
use crate::model::sandbox::{Sandbox, SandboxFilter, SandboxState};
use crate::model::stats::{CgroupUsage, ContainerStats, CpuHistory, CpuUsage, PodStats};
use std::sync::{Arc, Mutex, PoisonError};

impl Engine {
    /// What a container uses.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where it has ended.
    pub async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let cell = self.objects.container(id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no container {id}")))?;
        let cgroups = Arc::clone(&self.ports.cgroups);
        self.measure_layers(vec![Arc::clone(&cell)]);
        let (asked, id, counting) = (Arc::clone(&cell), id.to_owned(), self.counting());
        blocking(move || {
            counting.count([&asked]);
            match read_container(&asked, &*cgroups) {
                Ok(stats) => Ok(stats),
                Err(_) if !lives(&asked.record()) => Err(Error::precondition(format!(
                    "container {id} has ended and uses nothing"
                ))),
                Err(error) => {
                    Err(Error::from(error).during(format!("read what container {id} uses")))
                }
            }
        })
        .await
    }

    /// What the containers that match and live use.
    ///
    /// # Errors
    /// Where none of it can be read at all.
    pub async fn list_container_stats(
        &self,
        filter: &ContainerFilter,
    ) -> Result<Vec<ContainerStats>> {
        let mut cells = self.objects.containers();
        cells.retain(|cell| lives(&cell.record()) && filter.matches(&cell.record()));
        self.measure_layers(cells.clone());
        let (cgroups, counting) = (Arc::clone(&self.ports.cgroups), self.counting());
        blocking(move || {
            counting.count(&cells);
            Ok(read_containers(&cells, &*cgroups))
        })
        .await
    }

    /// What a pod uses.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn pod_sandbox_stats(&self, id: &str) -> Result<PodStats> {
        let cell = self.objects.sandbox(id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no sandbox {id}")))?;
        let mut pods = self.read_pods(vec![cell]).await?;
        pods.pop()
            .ok_or_else(|| Error::internal(format!("sandbox {id}: its cgroup cannot be read")))
    }

    /// What the pods that match and are ready use.
    ///
    /// # Errors
    /// Where none of it can be read at all.
    pub async fn list_pod_sandbox_stats(&self, filter: &SandboxFilter) -> Result<Vec<PodStats>> {
        let mut cells = self.objects.sandboxes();
        cells.retain(|cell| {
            let sandbox = cell.record();
            sandbox.state == SandboxState::Ready && filter.matches(&sandbox)
        });
        self.read_pods(cells).await
    }

    async fn read_pods(&self, cells: Vec<Arc<SandboxCell>>) -> Result<Vec<PodStats>> {
        let of = |cell| Pod::of(&self.objects, cell);
        let pods: Vec<Pod> = cells.into_iter().map(of).collect();
        let all = pods.iter().flat_map(|pod| pod.containers.clone());
        self.measure_layers(all.collect());
        let (cgroups, counting) = (Arc::clone(&self.ports.cgroups), self.counting());
        blocking(move || {
            let containers = pods.iter().flat_map(|pod| &pod.containers);
            counting.count(containers.filter(|cell| lives(&cell.record())));
            Ok(pods.iter().filter_map(|pod| pod.told(&*cgroups)).collect())
        })
        .await
    }
}

/// A container's cgroup is there between its making and its end.
fn lives(container: &Container) -> bool {
    matches!(
        container.state,
        ContainerState::Created | ContainerState::Running
    )
}

/// The cgroup above a container's: its pod's.
fn above(cell: &Arc<ContainerCell>) -> Option<String> {
    let container = cell.record();
    let (above, _) = container.cgroup.rsplit_once('/')?;
    (!above.is_empty()).then(|| above.to_owned())
}

fn read_containers(cells: &[Arc<ContainerCell>], cgroups: &dyn Cgroups) -> Vec<ContainerStats> {
    let one = |cell: &Arc<ContainerCell>| match read_container(cell, cgroups) {
        Ok(stats) => Some(stats),
        Err(CgroupError::Missing(_)) => None,
        Err(error) => {
            tracing::warn!(
                container.id = %cell.record().id,
                error = chain(&error),
                "what the container uses cannot be read"
            );
            None
        }
    };
    cells.iter().filter_map(one).collect()
}

fn read_container(
    cell: &ContainerCell,
    cgroups: &dyn Cgroups,
) -> Result<ContainerStats, CgroupError> {
    let container = cell.record();
    let usage = cgroups.usage(&container.cgroup)?;
    let timestamp = now();
    Ok(ContainerStats {
        id: container.id.clone(),
        metadata: container.config.metadata.clone(),
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        cpu: with_rate(&cell.cpu, &usage, timestamp),
        memory_timestamp: timestamp,
        memory: usage.memory,
        swap: usage.swap,
        pids: usage.pids,
        pressure: usage.pressure,
        writable_layer: cell.layer.usage(),
    })
}

fn with_rate(history: &Mutex<CpuHistory>, usage: &CgroupUsage, timestamp: i64) -> CpuUsage {
    let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
    history.taken(CpuUsage {
        timestamp,
        usage_core_ns: usage.cpu_ns,
        usage_nano_cores: None,
    })
}

/// A pod and all its containers.
struct Pod {
    cell: Arc<SandboxCell>,
    containers: Vec<Arc<ContainerCell>>,
}

impl Pod {
    fn of(objects: &Objects, cell: Arc<SandboxCell>) -> Self {
        let containers = objects.containers_of(&cell.record().id);
        Self { cell, containers }
    }

    /// What could be read; what could not is logged.
    fn told(&self, cgroups: &dyn Cgroups) -> Option<PodStats> {
        let told = |error: &CgroupError| {
            let id = &self.cell.record().id;
            tracing::warn!(sandbox.id = %id, error = chain(error), "what the pod uses cannot be read");
        };
        self.read(cgroups).inspect_err(told).ok()
    }

    fn read(&self, cgroups: &dyn Cgroups) -> Result<PodStats, CgroupError> {
        let sandbox = self.cell.record();
        let usage = self.usage(cgroups)?;
        let timestamp = now();
        let mut living = self.containers.clone();
        living.retain(|cell| lives(&cell.record()));
        Ok(PodStats {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
            cpu: with_rate(&self.cell.cpu, &usage, timestamp),
            memory_timestamp: timestamp,
            memory: usage.memory,
            network: self.network(&sandbox),
            process_count: usage.pids,
            pressure: usage.pressure,
            containers: read_containers(&living, cgroups),
        })
    }

    /// Of its scope, or of the cgroup above its containers', so that what ended ones used is counted
    /// too. A pod that never had a container may have neither, and has used nothing.
    fn usage(&self, cgroups: &dyn Cgroups) -> Result<CgroupUsage, CgroupError> {
        match self.cgroup() {
            None => Ok(CgroupUsage::default()),
            Some(path) => match cgroups.usage(&path) {
                Err(CgroupError::Missing(_)) => Ok(CgroupUsage::default()),
                read => read,
            },
        }
    }

    /// As any of its running containers sees it.
    fn network(&self, sandbox: &Sandbox) -> Option<crate::model::stats::NetworkUsage> {
        let own = sandbox.namespaces.network.as_ref()?;
        self.containers
            .iter()
            .map(|cell| cell.record())
            .filter(|container| container.state == ContainerState::Running)
            .find_map(|container| network::read(container.pid, own))
    }
}
