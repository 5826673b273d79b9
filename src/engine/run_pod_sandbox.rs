//! RunPodSandbox: `claim → save(Creating) → pin namespaces → network, scope → save(Ready)`.

use super::objects::SandboxCell;
use super::stop_pod_sandbox::NETWORK_TAKES;
use super::{Engine, blocking, now, pod_files, relabel};
use crate::error::{Context, Error, Kind, Result};
use crate::id::SandboxId;
use crate::model::host::HostFacts;
use crate::model::sandbox::{
    NamespaceMode, Namespaces, Release, Sandbox, SandboxConfig, SandboxState,
};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The runtime handlers that a pod may ask for: the default, by no name and by its own.
pub(super) const HANDLERS: [&str; 2] = ["", "corten"];

impl Engine {
    /// Makes a pod's namespaces and network. A second call for the same pod and attempt joins the
    /// first, or gets its result.
    ///
    /// # Errors
    /// `AlreadyExists` where a stopped sandbox, or another one in use, stands under the key;
    /// `NotFound` for a handler, `FailedPrecondition` for a user namespace that this node cannot
    /// give; else what the steps say, and nothing is left.
    pub async fn run_pod_sandbox(
        self: &Arc<Self>,
        config: SandboxConfig,
        handler: String,
    ) -> Result<SandboxId> {
        can_be_made(&config, &handler, &self.node.host)?;
        self.goes_with_driver(&config.cgroup_parent)?;
        let engine = Arc::clone(self);
        let key = config.key();
        let made = async move { engine.find_or_make(config, handler).await };
        let id = self.sandbox_claims.join(key, made).await?;
        crate::failpoint!("run_pod_sandbox/made");
        // Reached only by a caller that is still there.
        if let Some(cell) = self.objects.sandbox(id.as_str())? {
            cell.acknowledged.store(true, Ordering::Relaxed);
        }
        Ok(id)
    }

    fn draft_sandbox(&self, config: SandboxConfig, handler: String) -> Result<Sandbox> {
        let id = SandboxId::random();
        let scope = self.node.cgroups.scope(&id, &config.cgroup_parent)?;
        let namespaces = namespaces(&self.node.state, &id, &config);
        let mut sandbox = Sandbox {
            id,
            config,
            handler,
            state: SandboxState::Creating,
            created_at: now(),
            boot_id: self.node.boot_id.clone(),
            namespaces,
            network: None,
            release: Release::default(),
            ips: Vec::new(),
            scope,
            selinux_level: self.selinux_level(),
        };
        if sandbox.namespaces.network.is_some() {
            sandbox.network = Some(self.ports.networks.intent(&sandbox)?);
        }
        Ok(sandbox)
    }

    /// Where SELinux is on a pod's containers have categories that keep others out of their files.
    fn selinux_level(&self) -> Option<String> {
        let levels = || {
            let cells = self.objects.sandboxes().into_iter();
            let taken = cells.filter_map(|cell| cell.record().selinux_level.clone());
            relabel::level(&taken.collect())
        };
        self.node.host.selinux.then(levels)
    }

    async fn find_or_make(
        self: Arc<Self>,
        config: SandboxConfig,
        handler: String,
    ) -> Result<SandboxId> {
        let key = config.key();
        let found = self
            .objects
            .sandboxes()
            .into_iter()
            .find(|cell| cell.record().config.key() == key);
        if let Some(cell) = found {
            let old = cell.record();
            let usable = old.state == SandboxState::Ready;
            if usable && old.config == config {
                return Ok(old.id.clone());
            }
            if !usable || cell.acknowledged.load(Ordering::Relaxed) {
                return Err(exists(&old));
            }
            // Nobody heard of it, and something else is asked for now.
            self.remove_pod_sandbox(old.id.as_str()).await?;
        }
        let sandbox = self.draft_sandbox(config, handler)?;
        self.make_sandbox(sandbox).await
    }

    async fn make_sandbox(self: Arc<Self>, sandbox: Sandbox) -> Result<SandboxId> {
        let sandbox = Arc::new(sandbox);
        match self.build_sandbox(&sandbox).await {
            Ok(built) => {
                let id = built.id.clone();
                tracing::info!(
                    sandbox.id = %id,
                    pod = %format_args!("{}/{}", built.config.metadata.namespace, built.config.metadata.name),
                    ips = ?built.ips,
                    "sandbox is ready"
                );
                let holder = built.namespaces.holder;
                self.objects
                    .announce_sandbox(Arc::new(SandboxCell::new(built)), SandboxState::Creating);
                // Only now: the news of its end finds the sandbox, and an end before this is seen here.
                if holder.is_some_and(|holder| !self.ports.tasks.watch_holder(&id, holder)) {
                    self.objects.remove_sandbox(&id);
                    self.undo_sandbox(&sandbox, NETWORK_TAKES).await;
                    return Err(holder_gone());
                }
                Ok(id)
            }
            Err(error) => {
                self.undo_sandbox(&sandbox, NETWORK_TAKES).await;
                Err(error)
            }
        }
    }

    /// The steps; each is named in the error, and all of them are undone by one function.
    async fn build_sandbox(&self, draft: &Arc<Sandbox>) -> Result<Sandbox> {
        self.save_sandbox(Arc::clone(draft)).await?;
        crate::failpoint!("run_pod_sandbox/recorded");
        let mut sandbox = Sandbox::clone(draft);
        self.make_cradle(draft).await?;
        let pinned = self.ports.tasks.pin(draft).await;
        sandbox.namespaces.holder =
            pinned.map_err(|e| Error::from(e).during("make the pod's namespaces"))?;
        crate::failpoint!("run_pod_sandbox/pinned");
        if sandbox.namespaces.holder.is_some() {
            // A kill from here on must find the holder in the record.
            self.save_sandbox(Arc::new(sandbox.clone())).await?;
        }
        // Neither asks for the other; both come to their ends, so that what they made can be undone.
        let (scoped, added) = tokio::join!(self.start_scope(&sandbox), self.add_network(draft));
        scoped?;
        sandbox.ips = added?;
        crate::failpoint!("run_pod_sandbox/networked");
        sandbox.state = SandboxState::Ready;
        self.write_pod_files(&sandbox).await?;
        crate::failpoint!("run_pod_sandbox/files-written");
        self.save_sandbox(Arc::new(sandbox.clone())).await?;
        crate::failpoint!("run_pod_sandbox/ready-recorded");
        Ok(sandbox)
    }

    async fn add_network(&self, draft: &Sandbox) -> Result<Vec<IpAddr>> {
        match &draft.network {
            Some(intent) => self.ports.networks.add(draft, intent).await,
            None => Ok(Vec::new()),
        }
    }

    async fn write_pod_files(&self, sandbox: &Sandbox) -> Result<()> {
        let (dir, sandbox) = (self.pod_dir(&sandbox.id), sandbox.clone());
        blocking(move || {
            let made = std::fs::create_dir_all(&dir);
            made.context(Kind::Internal, || format!("create {}", dir.display()))?;
            pod_files::write_all(&pod_files::at(&dir), &sandbox)
        })
        .await
    }
}

/// A handler that a pod or an image is for is one of this node's.
///
/// # Errors
/// `NotFound`, with those that there are.
pub fn known_handler(handler: &str) -> Result<()> {
    if HANDLERS.contains(&handler) {
        return Ok(());
    }
    let known = HANDLERS.join(", ").trim_start_matches(", ").to_owned();
    let reason = format!("no runtime handler {handler:?}; this node has: {known}");
    Err(Error::not_found(reason))
}

fn holder_gone() -> Error {
    Error::internal("the process that holds the pod was killed while the pod was made")
}

/// Nothing that was asked for is left out in silence.
fn can_be_made(config: &SandboxConfig, handler: &str, host: &HostFacts) -> Result<()> {
    known_handler(handler)?;
    if config.security.namespaces.user.is_some() && !host.user_namespaces {
        return Err(Error::precondition(format!(
            "this node cannot give a pod a user namespace of its own (hostUsers: false): {}",
            host.no_user_namespaces
        )));
    }
    Ok(())
}

fn exists(old: &Sandbox) -> Error {
    let pod = &old.config.metadata;
    Error::new(
        Kind::AlreadyExists,
        format!(
            "pod {}/{} has sandbox {} for attempt {} already ({}); remove it, or ask for another attempt",
            pod.namespace,
            pod.name,
            old.id,
            pod.attempt,
            if old.state == SandboxState::Ready {
                "with another configuration"
            } else {
                "stopped"
            },
        ),
    )
}

/// Where a pod's namespaces will be pinned. The network namespace is where every tool of the field
/// looks for one.
fn namespaces(state: &Path, id: &SandboxId, config: &SandboxConfig) -> Namespaces {
    let dir = super::pod_dir(state, id);
    let options = &config.security.namespaces;
    let own =
        |mode: NamespaceMode, name: &str| (mode != NamespaceMode::Node).then(|| dir.join(name));
    let network =
        own(options.network, "net").map(|_| Path::new("/run/netns").join(format!("corten-{id}")));
    Namespaces {
        user: options.user.as_ref().map(|_| dir.join("user")),
        // A pod on the node's network has the node's name.
        uts: network.is_some().then(|| dir.join("uts")),
        network,
        ipc: own(options.ipc, "ipc"),
        shm: own(options.ipc, "shm"),
        pid: (options.pid == NamespaceMode::Pod).then(|| dir.join("pid")),
        holder: None,
    }
}
