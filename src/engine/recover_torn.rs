//! Objects of which a power cut has left nothing but the name: their records are empty or torn.
//!
//! What they held follows from the name: where namespaces are pinned, where files are, and what the
//! CNI plugins' results say of the network. It is undone by the same code as what is half made, from a
//! record that is written anew for that, so a kill meanwhile leaves no less than was known before.
//!
//! Deliberately absent: an address whose result file was torn as well. Nothing on the disk leads to it.

use super::recover::{AT_ONCE, UNDO_TAKES};
use super::{Engine, pod_dir};
use crate::id::{ContainerId, Digest, ImageId, SandboxId};
use crate::model::container::{Container, ContainerConfig, ContainerState};
use crate::model::resources::Resources;
use crate::model::sandbox::{
    Namespaces, NetworkIntent, Release, Sandbox, SandboxConfig, SandboxState,
};
use futures::{StreamExt, stream};
use std::path::Path;
use std::sync::Arc;

impl Engine {
    /// Undoes what is known by its name alone.
    pub(super) async fn undo_torn(
        self: &Arc<Self>,
        sandboxes: Vec<SandboxId>,
        containers: Vec<ContainerId>,
    ) {
        for id in containers {
            tracing::warn!(container.id = %id, "a container without a whole record is undone");
            self.undo_container(&nameless_container(id)).await;
        }
        stream::iter(sandboxes)
            .for_each_concurrent(AT_ONCE, |id| self.undo_torn_sandbox(id))
            .await;
    }

    async fn undo_torn_sandbox(self: &Arc<Self>, id: SandboxId) {
        tracing::warn!(sandbox.id = %id, "a sandbox without a whole record is undone");
        let network = self.ports.networks.remembered(&id).await;
        let sandbox = Arc::new(nameless_sandbox(&self.node.state, id, network));
        if let Err(error) = self.save_sandbox(Arc::clone(&sandbox)).await {
            tracing::warn!(sandbox.id = %sandbox.id, error = error.chain(), "its record cannot be written anew");
        }
        self.ports.networks.end_strays(&sandbox).await;
        self.undo_sandbox(&sandbox, UNDO_TAKES).await;
    }
}

/// All that a sandbox of this name may have made.
fn nameless_sandbox(state: &Path, id: SandboxId, network: Option<NetworkIntent>) -> Sandbox {
    let dir = pod_dir(state, &id);
    let own = |name: &str| Some(dir.join(name));
    let namespaces = Namespaces {
        user: own("user"),
        network: Some(Path::new("/run/netns").join(format!("corten-{id}"))),
        ipc: own("ipc"),
        uts: own("uts"),
        pid: own("pid"),
        shm: own("shm"),
        holder: None,
    };
    Sandbox {
        id,
        config: SandboxConfig::default(),
        handler: String::new(),
        state: SandboxState::Creating,
        created_at: 0,
        boot_id: String::new(),
        namespaces,
        network,
        release: Release::default(),
        ips: Vec::new(),
        scope: None,
        selinux_level: None,
    }
}

/// A container of this name: its shim knows the rest, where one is there.
fn nameless_container(id: ContainerId) -> Container {
    Container {
        id,
        sandbox_id: SandboxId::random(),
        config: ContainerConfig::default(),
        image_id: ImageId(Digest::of(b"")),
        image_ref: String::new(),
        image_volumes: [].into(),
        state: ContainerState::Creating,
        created_at: 0,
        started_at: 0,
        boot_id: String::new(),
        pid: 0,
        start_time: 0,
        stop_signal: 0,
        healthcheck: None,
        cgroup: String::new(),
        log_path: None,
        user: None,
        resources: Resources::default(),
    }
}
