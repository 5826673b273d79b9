//! The use cases of the runtime: one verb a file, each a straight line over the ports.
//!
//! ```text
//! RunPodSandbox    claim → save(Creating) → pin namespaces → network → save(Ready)
//! CreateContainer  claim → save(Creating) → snapshot → spec → bundle → shim → save(Created)
//! StartContainer   shim executes the program → save(Running)
//! StopContainer    signal → wait for the exit event outside of any lock → SIGKILL after the grace
//! an end           shim writes the record → event → the state in memory
//! a restart        load → reconnect each → undo what is Creating → serve
//! ```
//!
//! Invariants: a record is on disk before what it names is made. One gate an object: who changes
//! its state holds it, who waits does not. List and Status read memory and take no gate. What is
//! taken back on a failure is taken back by the same code that recovery uses.

mod backoff;
mod bundle;
mod cgroup_driver;
mod check_images;
mod claim;
mod create_container;
mod events;
mod exec_sync;
mod export_image;
mod fetch_layer;
mod flights;
mod follow_events;
mod health;
mod image_archive;
mod image_fs_info;
mod image_index;
mod image_layers;
mod image_policy;
mod images;
mod import_image;
mod inspect_image;
mod journal;
mod keep_blobs;
mod list;
mod list_images;
mod looks;
mod mounts;
mod objects;
mod pod_files;
mod pull_image;
mod recover;
mod recover_torn;
mod relabel;
mod remove_container;
mod remove_image;
mod remove_pod_sandbox;
mod reopen_container_log;
mod repair_images;
mod run_pod_sandbox;
mod running;
mod scope;
pub mod session;
mod settle_images;
mod start_container;
mod stats;
mod status;
mod stop_container;
mod stop_pod_sandbox;
mod teardown;
#[cfg(test)]
mod tests;
mod undo;
mod unfinished_pull;
mod update_resources;
mod update_runtime_config;

pub use crate::registry::Route;
pub use check_images::{CheckReport, Fault, Finding, FindingSink};
pub use exec_sync::ExecOutput;
pub use export_image::{ArchiveForm, Export, ExportStep};
pub use follow_events::{ContainerEvent, Following};
pub use image_fs_info::ImageFsInfo;
pub use image_layers::ProgressSink;
pub use image_policy::ImagePolicy;
pub use images::Images;
pub use inspect_image::InspectedImage;
pub use list::SandboxStatus;
pub use remove_image::RemovedImage;
pub use run_pod_sandbox::known_handler;
pub use status::{Condition, Handler, NodeStatus};
pub use update_runtime_config::ConfTemplate;

use crate::cgroup::{Cgroups, Scopes};
use crate::error::{Context, Kind, Result};
use crate::id::{ContainerId, SandboxId};
use crate::metrics::{EventMetrics, HealthMetrics};
use crate::model::container::Container;
use crate::model::host::{CgroupDriver, HostFacts};
use crate::model::pod_cgroup::PodCgroups;
use crate::model::sandbox::Sandbox;
use crate::network::Networks;
use crate::snapshot::Snapshotter;
use crate::store::Store;
use crate::task::{TaskEvent, Tasks};
use crate::task::{apparmor, seccomp};
use cgroup_driver::Drivers;
use claim::Claims;
use looks::Looks;
use objects::Objects;
use session::Streaming;
use stats::{Measuring, Turn};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use teardown::Teardowns;
use tokio::sync::mpsc;

/// The adapters that the use cases work with.
pub struct Ports {
    /// Records.
    pub store: Arc<dyn Store>,
    /// Processes.
    pub tasks: Arc<dyn Tasks>,
    /// The pod network.
    pub networks: Arc<dyn Networks>,
    /// Writable layers.
    pub snapshots: Arc<dyn Snapshotter>,
    /// Images.
    pub images: Arc<Images>,
    /// Compiled seccomp profiles.
    pub seccomp: Arc<seccomp::Filters>,
    /// The node's AppArmor profiles.
    pub apparmor: apparmor::Profiles,
    /// The node's cgroups.
    pub cgroups: Arc<dyn Cgroups>,
    /// Who makes scopes, under the driver `systemd`.
    pub scopes: Arc<dyn Scopes>,
    /// What is counted of checks of health.
    pub health: HealthMetrics,
    /// What is counted of those who follow events.
    pub events: EventMetrics,
}

/// What the use cases know of the node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Directory of what a reboot ends.
    pub state: PathBuf,
    /// What the kernel can.
    pub host: HostFacts,
    /// This boot's id.
    pub boot_id: String,
    /// Who makes the cgroups of new pods.
    pub cgroups: PodCgroups,
    /// What becomes the pod network's configuration once the node's pod CIDR is known.
    pub conf_template: Option<ConfTemplate>,
    /// Where vendors describe their devices; a later directory goes before an earlier one.
    pub cdi_dirs: Vec<PathBuf>,
    /// Whether images' health checks are run where the pod does not say.
    pub image_healthchecks: bool,
}

/// The runtime.
pub struct Engine {
    ports: Ports,
    node: Node,
    objects: Objects,
    sandbox_claims: Claims<(String, String, u32), SandboxId>,
    container_claims: Claims<(SandboxId, String, u32), ContainerId>,
    teardowns: Teardowns,
    looks: Looks,
    measuring: Measuring,
    metrics_turn: Turn,
    streaming: Streaming,
    drivers: Drivers,
}

impl Engine {
    /// Takes up the objects that the store holds, and from then on the news of containers.
    ///
    /// # Errors
    /// Where the store cannot be read at all.
    pub async fn start(
        ports: Ports,
        node: Node,
        events: mpsc::UnboundedReceiver<TaskEvent>,
    ) -> Result<Arc<Self>> {
        let engine = Arc::new(Self {
            objects: Objects::new(ports.events.clone()),
            ports,
            node,
            sandbox_claims: Claims::default(),
            container_claims: Claims::default(),
            teardowns: Teardowns::default(),
            looks: Looks::default(),
            measuring: Measuring::default(),
            metrics_turn: Turn::default(),
            streaming: Streaming::default(),
            drivers: Drivers::default(),
        });
        engine.recover().await?;
        tokio::spawn(events::follow(Arc::clone(&engine), events));
        Ok(engine)
    }

    /// Who makes the cgroups of new pods.
    #[must_use]
    pub fn cgroup_driver(&self) -> CgroupDriver {
        self.node.cgroups.driver()
    }

    /// The images of the node.
    #[must_use]
    pub fn images(&self) -> &Arc<Images> {
        &self.ports.images
    }

    /// Writes a sandbox's record on a thread that may wait for the disk.
    async fn save_sandbox(&self, sandbox: Arc<Sandbox>) -> Result<()> {
        let store = Arc::clone(&self.ports.store);
        blocking(move || Ok(store.save_sandbox(&sandbox)?)).await
    }

    /// Writes a container's record on a thread that may wait for the disk.
    async fn save_container(&self, container: Arc<Container>) -> Result<()> {
        let store = Arc::clone(&self.ports.store);
        blocking(move || Ok(store.save_container(&container)?)).await
    }

    /// Where a pod's generated files are.
    fn pod_dir(&self, id: &SandboxId) -> PathBuf {
        pod_dir(&self.node.state, id)
    }
}

fn pod_dir(state: &Path, id: &SandboxId) -> PathBuf {
    state.join("sandboxes").join(id.as_str())
}

/// Runs what may wait for a disk or a path of a user's choice off the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.context(Kind::Internal, || "a worker thread ended early".to_owned())?
}

/// Writes a record as JSON, whole or not at all.
fn write_whole<T: serde::Serialize>(path: &Path, record: &T) -> Result<()> {
    let failed = || format!("write {}", path.display());
    let text = serde_json::to_vec(record).context(Kind::Internal, failed)?;
    let temporary = path.with_extension("json.new");
    std::fs::write(&temporary, text).context(Kind::Internal, failed)?;
    std::fs::rename(&temporary, path).context(Kind::Internal, failed)
}

/// Runs what must come to its end although its caller goes away: a call that is cut off between an
/// effect and its record would leave the two apart.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tokio::spawn(work).await;
    done.context(Kind::Internal, || "the operation ended early".to_owned())?
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
