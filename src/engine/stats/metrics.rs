//! Metrics of pods, for the kubelet to serve in cAdvisor's place.
//!
//! One pass reads everything when somebody asks: nothing is collected beside it, no process is made, and one
//! thread reads some thirty files a container. Passes take turns, so that scrapers who
//! come together cost one thread. A pass whose caller has gone away comes to its end before the next begins.
//!
//! Invariant: what could not be read is left out, and is no error for the rest.

use super::disk::{BlockDevices, Disk};
use super::{Pod, lives, processes};
use crate::cgroup::{CgroupError, Cgroups};
use crate::engine::objects::ContainerCell;
use crate::engine::{Engine, blocking, now};
use crate::error::{Result, chain};
use crate::id::{ContainerId, ImageRef};
use crate::model::cgroup_detail::{CgroupDetail, ProcessUsage};
use crate::model::container::Container;
use crate::model::pod_metrics::{
    BaseLabels, DiskPart, PodMetrics, Samples, of_container, of_disk, of_network, of_pod,
};
use crate::model::sandbox::{Sandbox, SandboxState};
use crate::model::spec;
use std::sync::Arc;
use std::time::Duration;

/// So long a pass measures layers that nobody has measured yet: those of containers just made take no time.
const FIRST_MEASURES: Duration = Duration::from_millis(100);

/// Passes take turns.
pub type Turn = Arc<tokio::sync::Mutex<()>>;

impl Engine {
    /// What the pods that are ready use, and each of their living containers.
    ///
    /// # Errors
    /// Where a thread of the daemon's fails.
    pub async fn list_pod_sandbox_metrics(&self) -> Result<Vec<PodMetrics>> {
        let turn = Arc::clone(&self.metrics_turn).lock_owned().await;
        let pods = self.ready_pods();
        let containers: Vec<_> = pods.iter().flat_map(|pod| pod.containers.clone()).collect();
        let (cgroups, counting) = (Arc::clone(&self.ports.cgroups), self.counting());
        let directory = self.ports.store.containers_dir();
        let told = blocking(move || {
            let _alone = turn;
            let all = pods.iter().flat_map(|pod| &pod.containers);
            let living: Vec<_> = all.filter(|cell| lives(&cell.record())).collect();
            counting.count(living.iter().copied());
            counting.measure_unknown(&living, FIRST_MEASURES);
            let pass = Pass {
                cgroups: &*cgroups,
                disk: Disk::of(&directory),
                devices: BlockDevices::default(),
            };
            Ok(pods.iter().map(|pod| pass.pod(pod)).collect())
        })
        .await?;
        self.measure_layers(containers);
        Ok(told)
    }

    fn ready_pods(&self) -> Vec<Pod> {
        let mut cells = self.objects.sandboxes();
        cells.retain(|cell| cell.record().state == SandboxState::Ready);
        let with_containers = |cell: Arc<_>| Pod::of(&self.objects, cell);
        cells.into_iter().map(with_containers).collect()
    }
}

/// What the reading of all pods has in common.
struct Pass<'a> {
    cgroups: &'a dyn Cgroups,
    disk: Option<Disk>,
    devices: BlockDevices,
}

impl Pass<'_> {
    fn pod(&self, pod: &Pod) -> PodMetrics {
        let sandbox = pod.cell.record();
        let labels = BaseLabels {
            id: pod.limited(&sandbox).unwrap_or_default(),
            namespace: sandbox.config.metadata.namespace.clone(),
            pod: sandbox.config.metadata.name.clone(),
            ..BaseLabels::default()
        };
        let mut held = ProcessUsage::default();
        let living = pod.containers.iter().filter(|cell| lives(&cell.record()));
        let containers = living
            .filter_map(|cell| self.container(cell, &labels, &mut held))
            .collect();
        let times = (sandbox.created_at, now());
        let detail = self.detail(&labels.id);
        let mut samples = detail.map_or_else(Vec::new, |detail| {
            of_pod(&detail, &held, times, &|major, minor| {
                self.devices.name(major, minor)
            })
        });
        samples.extend(pod.network(&sandbox).iter().flat_map(of_network));
        PodMetrics {
            id: sandbox.id.clone(),
            pod: Samples { labels, samples },
            containers,
        }
    }

    /// `None` where it has ended meanwhile. What its processes hold is added to what the pod's do.
    fn container(
        &self,
        cell: &ContainerCell,
        pod: &BaseLabels,
        held: &mut ProcessUsage,
    ) -> Option<(ContainerId, Samples)> {
        let container = cell.record();
        let detail = self.detail(&container.cgroup)?;
        let own = processes::of(&detail.processes, container.pid);
        held.processes += own.processes;
        held.descriptors += own.descriptors;
        held.sockets += own.sockets;
        let started_at = match container.started_at {
            0 => container.created_at,
            time => time,
        };
        let detail = with_shares_asked_for(detail, &container);
        let name = |major, minor| self.devices.name(major, minor);
        let mut samples = of_container(&detail, &own, (started_at, now()), &name);
        samples.extend(self.disk_part(cell).iter().flat_map(of_disk));
        let labels = labels(&container, pod);
        Some((container.id.clone(), Samples { labels, samples }))
    }

    fn disk_part(&self, cell: &ContainerCell) -> Option<DiskPart> {
        let disk = self.disk.as_ref()?;
        let layer = cell.layer.usage();
        Some(DiskPart {
            device: disk.device.clone(),
            limit_bytes: disk.bytes,
            inodes_total: disk.inodes,
            inodes_free: disk.inodes_free,
            used_bytes: layer.as_ref().map(|usage| usage.used_bytes),
            measured_at: layer.map_or(0, |usage| usage.timestamp),
        })
    }

    /// `None` where it is not there (any more), or cannot be read, which is logged.
    fn detail(&self, cgroup: &str) -> Option<CgroupDetail> {
        if cgroup.is_empty() {
            return None;
        }
        let read = self.cgroups.detail(cgroup);
        let told = |error: &CgroupError| match error {
            CgroupError::Missing(_) => {}
            error => {
                tracing::warn!(
                    cgroup,
                    error = chain(error),
                    "what a cgroup uses cannot be read"
                );
            }
        };
        read.inspect_err(told).ok()
    }
}

/// Of a weight of version 2 only about the shares can be told; what was asked for is known.
fn with_shares_asked_for(mut detail: CgroupDetail, container: &Container) -> CgroupDetail {
    let asked = u64::try_from(container.resources.cpu_shares).ok();
    if let Some(shares) = asked.filter(|shares| *shares > 0) {
        detail.limits.cpu_shares = Some(shares);
    }
    detail
}

fn labels(container: &Container, pod: &BaseLabels) -> BaseLabels {
    BaseLabels {
        id: container.cgroup.clone(),
        name: container.id.to_string(),
        image: image(container),
        container: container.config.metadata.name.clone(),
        ..pod.clone()
    }
}

/// The name that the user wrote, in its full form, as cAdvisor shows it; else whatever names the image.
fn image(container: &Container) -> String {
    let config = &container.config;
    let written = config.user_specified_image.parse::<ImageRef>();
    match (written, container.image_ref.as_str()) {
        (Ok(name), _) => name.to_string(),
        (Err(_), "") => container.image_id.to_string(),
        (Err(_), name) => name.to_owned(),
    }
}

impl Pod {
    /// The cgroup that has the pod's limits: above its scope the kubelet's slice, or in it the one that is
    /// Corten's own.
    fn limited(&self, sandbox: &Sandbox) -> Option<String> {
        match &sandbox.scope {
            Some(_) if sandbox.config.cgroup_parent.is_empty() => spec::own_cgroup(sandbox),
            Some(scope) => Some(scope.cgroup.rsplit_once('/')?.0.to_owned()),
            None => self.cgroup(),
        }
    }

    /// Its scope, or the cgroup above its containers'; `None` before it has one.
    pub(super) fn cgroup(&self) -> Option<String> {
        let scope = self.cell.record().scope.clone();
        let scope = scope.map(|scope| scope.cgroup);
        scope.or_else(|| self.containers.iter().find_map(super::above))
    }
}
