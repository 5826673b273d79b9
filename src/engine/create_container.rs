//! CreateContainer: `claim → save(Creating) → snapshot → spec → bundle → shim → save(Created)`.

use super::objects::{ContainerCell, SandboxCell};
use super::run_pod_sandbox::known_handler;
use super::{Engine, events, mounts, now, pod_files, relabel};
use crate::error::{Context, Error, Kind, Result, Sentinel};
use crate::id::{ChainId, ContainerId, ImageId, ImageRef};
use crate::model::container::{Container, ContainerConfig, ContainerState};
use crate::model::image::Image;
use crate::model::sandbox::{NamespaceMode, Sandbox, SandboxState};
use crate::model::{cdi, signal, spec};
use crate::task::{CreateOrder, Vacancy};
use corten_shim::api::ImageVolume;
use oci_spec::runtime::Spec;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The name, in a bundle, of the link to the container's seccomp program.
pub(super) const SECCOMP_LINK: &str = "seccomp.bpf";

impl Engine {
    /// Makes a container up to the point where its program could be executed. A second call for
    /// the same name and attempt in the pod joins the first, or gets its result.
    ///
    /// # Errors
    /// `NotFound` for the sandbox or the image; `FailedPrecondition` where the sandbox is not
    /// ready; `AlreadyExists`; else what the steps say, and nothing is left.
    pub async fn create_container(
        self: &Arc<Self>,
        sandbox_id: &str,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        let cell = self.objects.sandbox(sandbox_id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no sandbox {sandbox_id}")))?;
        let who = &config.metadata;
        let key = (cell.record().id.clone(), who.name.clone(), who.attempt);
        let engine = Arc::clone(self);
        let made = async move { engine.find_or_create(&cell, config).await };
        let id = self.container_claims.join(key, made).await?;
        crate::failpoint!("create_container/made");
        if let Some(cell) = self.objects.container(id.as_str())? {
            cell.acknowledged.store(true, Ordering::Relaxed);
        }
        Ok(id)
    }

    async fn find_or_create(
        self: Arc<Self>,
        pod: &Arc<SandboxCell>,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        // Verifiers take their time: before the gate, where a Stop of the pod would wait for them.
        let judged = self.verify(&config).await?;
        let _shared = pod.gate.read().await;
        let sandbox = pod.record();
        if sandbox.state != SandboxState::Ready {
            return Err(Error::precondition(format!(
                "sandbox {} is not ready",
                sandbox.id
            )));
        }
        let key = (
            sandbox.id.clone(),
            config.metadata.name.clone(),
            config.metadata.attempt,
        );
        let cells = self.objects.containers_of(&sandbox.id);
        if let Some(cell) = cells.into_iter().find(|cell| cell.record().key() == key) {
            let old = cell.record();
            if !old.has_exited() && same_but_for_the_termination_log(&old.config, &config) {
                return Ok(old.id.clone());
            }
            if old.has_exited() || cell.acknowledged.load(Ordering::Relaxed) {
                return Err(exists(&old));
            }
            // Nobody heard of it, and something else is asked for now.
            self.remove(&cell).await?;
        }
        self.make_container(&sandbox, config, judged).await
    }

    async fn make_container(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
        judged: Option<ImageId>,
    ) -> Result<ContainerId> {
        let image = self.image_of(&config)?;
        if judged.is_some_and(|judged| judged != image.record.id) {
            let moved = format!("image {} has come to mean another one", config.image);
            return Err(Error::new(Kind::Unavailable, format!("{moved}; try again")));
        }
        let draft = self.draft_container(sandbox, config, &image)?;
        // The images' layers stay while the container is there.
        let held = draft
            .images()
            .try_for_each(|id| self.ports.images.hold(&draft.id, id));
        if let Err(gone) = held {
            self.ports.images.release(&draft.id);
            return Err(gone);
        }
        // Entered before it is made: the news of an early end must find it.
        let cell = Arc::new(ContainerCell::new(draft));
        self.objects.add_container(Arc::clone(&cell));
        match self.build_container(sandbox, &cell, &image).await {
            Ok(()) => Ok(cell.record().id.clone()),
            Err(error) => {
                let container = cell.record();
                self.objects.remove_container(&container.id);
                self.undo_container(&container).await;
                Err(error.during(format!(
                    "create container {}",
                    container.config.metadata.name
                )))
            }
        }
    }

    fn image_of(&self, config: &ContainerConfig) -> Result<Arc<Image>> {
        known_handler(&config.image_handler)?;
        let image = self.ports.images.status(&config.image)?.ok_or_else(|| {
            Error::not_found(format!(
                "image {} is not on this node; pull it first",
                config.image
            ))
        })?;
        match &image.artifact {
            None => Ok(image),
            Some(kind) => Err(Error::precondition(format!(
                "image {} is an artifact ({kind}) and has no programs to run: a container can only see it, as an image volume",
                config.image
            ))),
        }
    }

    /// Whether the image and those that the container is to see may be used; which image that is. One
    /// that is not there is told where it is looked for.
    async fn verify(&self, config: &ContainerConfig) -> Result<Option<ImageId>> {
        let images = &self.ports.images;
        let Ok(Some(image)) = images.status(&config.image) else {
            return Ok(None);
        };
        images
            .verify_use(&image, &config.user_specified_image)
            .await?;
        for wanted in config
            .mounts
            .iter()
            .filter_map(|mount| mount.image.as_ref())
        {
            if let Ok(Some(volume)) = images.status(&wanted.image) {
                images.verify_use(&volume, &wanted.image).await?;
            }
        }
        Ok(Some(image.record.id.clone()))
    }

    /// The images that a container is to see.
    fn image_volumes(&self, config: &ContainerConfig) -> Result<BTreeMap<usize, ImageId>> {
        let mut found = BTreeMap::new();
        for (place, mount) in config.mounts.iter().enumerate() {
            let Some(wanted) = &mount.image else {
                continue;
            };
            let failed = |why: String| {
                let kind = Kind::Sentinel(Sentinel::ImageVolumeMountFailed);
                Error::new(kind, format!("mount {}: {why}", mount.container_path))
            };
            known_handler(&wanted.handler).map_err(|error| failed(error.chain()))?;
            let image = self.ports.images.status(&wanted.image);
            let image = image
                .map_err(|error| failed(error.chain()))?
                .ok_or_else(|| {
                    failed(format!(
                        "image {} is not on this node; pull it first",
                        wanted.image
                    ))
                })?;
            found.insert(place, image.record.id.clone());
        }
        Ok(found)
    }

    fn draft_container(
        &self,
        sandbox: &Sandbox,
        config: ContainerConfig,
        image: &Image,
    ) -> Result<Container> {
        let id = ContainerId::random();
        let stop_signal = match config.stop_signal {
            Some(signal) => signal,
            None => signal::parse(&image.config.stop_signal)?,
        };
        Ok(Container {
            cgroup: spec::cgroup_path(sandbox, &id)?,
            log_path: log_path(sandbox, &config),
            sandbox_id: sandbox.id.clone(),
            image_ref: image_ref(image, &config),
            image_id: image.record.id.clone(),
            image_volumes: self.image_volumes(&config)?,
            resources: config.resources.clone(),
            state: ContainerState::Creating,
            created_at: now(),
            started_at: 0,
            boot_id: self.node.boot_id.clone(),
            pid: 0,
            start_time: 0,
            user: None,
            healthcheck: self.healthcheck(sandbox, image),
            stop_signal,
            id,
            config,
        })
    }

    async fn build_container(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        cell: &Arc<ContainerCell>,
        image: &Arc<Image>,
    ) -> Result<()> {
        let container = cell.record();
        // It never ran: no disk is waited for.
        self.ports.store.save_container(&container)?;
        crate::failpoint!("create_container/recorded");
        let (shim, order) = tokio::join!(
            self.prepare_shim(&container),
            self.make_bundle(sandbox, &container, image)
        );
        crate::failpoint!("create_container/bundled");
        let launched = shim?.create(order?).await?;
        crate::failpoint!("create_container/launched");
        cell.set_task(Some(launched.task));
        let created = self.objects.change_container(cell, |container| {
            container.state = ContainerState::Created;
            container.pid = launched.pid;
            container.start_time = launched.start_time;
            container.user = Some(launched.user);
        });
        self.ports.store.save_container(&created)?;
        crate::failpoint!("create_container/created-recorded");
        if cell.lacks_shim() {
            // The news came while it was being made, and nobody took it in.
            events::shim_lost(self, Arc::clone(cell));
        }
        tracing::info!(container.id = %container.id, sandbox.id = %container.sandbox_id, pid = launched.pid, "container is created");
        Ok(())
    }

    /// The shim begins with the cgroup while the bundle is written.
    async fn prepare_shim(&self, container: &Container) -> Result<Box<dyn Vacancy>> {
        let tasks = &self.ports.tasks;
        let shim = tasks.launch(&container.id, &container.cgroup).await?;
        crate::failpoint!("create_container/prepared");
        Ok(shim)
    }

    /// Everything that the shim reads: rootfs, `config.json` and the seccomp program.
    async fn make_bundle(
        &self,
        sandbox: &Arc<Sandbox>,
        container: &Arc<Container>,
        image: &Arc<Image>,
    ) -> Result<CreateOrder> {
        let bundle = self.ports.store.bundle_dir(&container.id);
        let directory = self.ports.store.container_dir(&container.id);
        let work = BundleWork {
            target_pid: self.target_pid(container)?,
            files: pod_files::at(&self.pod_dir(&sandbox.id)),
            host: self.node.host.clone(),
            snapshots: Arc::clone(&self.ports.snapshots),
            seccomp: Arc::clone(&self.ports.seccomp),
            apparmor: self.ports.apparmor.clone(),
            sandbox: Arc::clone(sandbox),
            container: Arc::clone(container),
            image: Arc::clone(image),
            volumes: self.layers_of_volumes(container)?,
            bundle: bundle.clone(),
            directory: directory.clone(),
        };
        let (named, vendors) = (Arc::clone(container), self.node.cdi_dirs.clone());
        let place = bundle.clone();
        let look = move |looker: &_| mounts::look(&named.config, &place, &vendors, looker);
        let write = move |sources| work.write(&sources);
        let seccomp_filter = self.looks.within(mounts::LIMIT, look, write).await?;
        let config = &container.config;
        Ok(CreateOrder {
            id: container.id.clone(),
            bundle,
            directory,
            log_path: parted(sandbox, config),
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            seccomp_filter,
        })
    }

    /// The layers of each image that the container is to see.
    fn layers_of_volumes(&self, container: &Container) -> Result<Vec<(usize, Vec<ChainId>)>> {
        let layers =
            |(place, id): (&usize, &ImageId)| Ok((*place, self.ports.images.held_layers(id)?));
        container.image_volumes.iter().map(layers).collect()
    }

    /// The process whose PID namespace a container with `Target` joins.
    fn target_pid(&self, container: &Container) -> Result<Option<i32>> {
        let options = &container.config.security.namespaces;
        if options.pid != NamespaceMode::Target {
            return Ok(None);
        }
        let target = self.container_status(&options.target_id)?;
        if target.sandbox_id != container.sandbox_id || target.state != ContainerState::Running {
            return Err(Error::precondition(format!(
                "container {}, whose PID namespace is wanted, does not run in this pod",
                options.target_id
            )));
        }
        Ok(Some(target.pid))
    }
}

/// What is done on a blocking thread for one bundle.
struct BundleWork {
    sandbox: Arc<Sandbox>,
    container: Arc<Container>,
    image: Arc<Image>,
    volumes: Vec<(usize, Vec<ChainId>)>,
    files: spec::PodFiles,
    target_pid: Option<i32>,
    host: crate::model::host::HostFacts,
    snapshots: Arc<dyn crate::snapshot::Snapshotter>,
    seccomp: Arc<crate::task::seccomp::Filters>,
    apparmor: crate::task::apparmor::Profiles,
    bundle: PathBuf,
    directory: PathBuf,
}

impl BundleWork {
    fn write(&self, sources: &mounts::Sources) -> Result<Option<PathBuf>> {
        let spec = self.spec(sources)?;
        self.apparmor_profile(&spec)?;
        self.relabel(sources, &spec)?;
        let rootfs = self.bundle.join("rootfs");
        std::fs::create_dir_all(&rootfs)
            .context(Kind::Internal, || format!("create {}", rootfs.display()))?;
        let mounts = self
            .snapshots
            .prepare(&self.directory, &self.image.record.layers)?;
        write_json(&self.bundle.join("rootfs.json"), &mounts)?;
        self.write_volumes()?;
        write_json(&self.bundle.join("config.json"), &spec)?;
        self.seccomp_program(&spec)
    }

    /// What the shim is to mount of images. The spec names each as a plain bind mount of its place
    /// in the bundle, so that it means the same to any runtime.
    fn write_volumes(&self) -> Result<()> {
        if self.volumes.is_empty() {
            return Ok(());
        }
        let mut volumes = Vec::new();
        for (place, layers) in &self.volumes {
            let path = mounts::image_volume(&self.bundle, *place);
            std::fs::create_dir_all(&path)
                .context(Kind::Internal, || format!("create {}", path.display()))?;
            volumes.push(ImageVolume {
                path,
                mounts: self.snapshots.view(layers)?,
                sub_path: self.container.config.mounts[*place].image_sub_path.clone(),
            });
        }
        write_json(&self.bundle.join("volumes.json"), &volumes)
    }

    fn spec(&self, sources: &mounts::Sources) -> Result<Spec> {
        let mut spec = spec::build(&spec::SpecInputs {
            sandbox: &self.sandbox,
            container_id: &self.container.id,
            config: &self.container.config,
            image: &self.image.config,
            mounts: &sources.mounts,
            devices: &sources.devices,
            files: &self.files,
            hostname: &super::pod_files::hostname(&self.sandbox),
            host: &self.host,
            target_pid: self.target_pid,
            seccomp_profile: sources.seccomp_profile.as_deref(),
        })?;
        for edits in &sources.edits {
            cdi::apply(edits, &mut spec);
        }
        Ok(spec)
    }

    /// Volumes whose files are to be the container's. A privileged one may use them as they are.
    fn relabel(&self, sources: &mounts::Sources, spec: &Spec) -> Result<()> {
        let label = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.mount_label().as_ref());
        let Some(label) = label.filter(|_| !self.container.config.security.privileged) else {
            return Ok(());
        };
        let mounts = self.container.config.mounts.iter().zip(&sources.mounts);
        for (_, found) in mounts.filter(|(mount, _)| mount.selinux_relabel && mount.image.is_none())
        {
            relabel::relabel(&found.host_path, label)?;
        }
        Ok(())
    }

    /// One that is not there is told before anything is made.
    fn apparmor_profile(&self, spec: &Spec) -> Result<()> {
        let process = spec.process().as_ref();
        match process.and_then(|process| process.apparmor_profile().as_ref()) {
            Some(name) => Ok(self.apparmor.ready(name)?),
            None => Ok(()),
        }
    }

    /// Compiled or found in the cache; a link in the bundle lets execs find it, also after a
    /// restart.
    fn seccomp_program(&self, spec: &Spec) -> Result<Option<PathBuf>> {
        let profile = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.seccomp().as_ref());
        let Some(profile) = profile else {
            return Ok(None);
        };
        let program = self.seccomp.filter(profile)?;
        let link = self.bundle.join(SECCOMP_LINK);
        std::os::unix::fs::symlink(&program, &link)
            .context(Kind::Internal, || format!("link {}", link.display()))?;
        Ok(Some(program))
    }
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed = || format!("write {}", path.display());
    let text = serde_json::to_vec(value).context(Kind::Internal, failed)?;
    std::fs::write(path, text).context(Kind::Internal, failed)
}

/// Of the digests that an image has, that of the repository which was asked for.
fn image_ref(image: &Image, config: &ContainerConfig) -> String {
    let asked: Option<ImageRef> = config.user_specified_image.parse().ok();
    let same = |name: &&ImageRef| {
        let asked = asked.as_ref();
        asked.is_some_and(|asked| {
            (asked.registry(), asked.repository()) == (name.registry(), name.repository())
        })
    };
    let digests = &image.record.digests;
    let found = digests.iter().find(same).or_else(|| digests.first());
    found.map_or_else(|| image.record.id.to_string(), ImageRef::to_string)
}

fn log_path(sandbox: &Sandbox, config: &ContainerConfig) -> Option<PathBuf> {
    let wanted = !config.log_path.is_empty() && !sandbox.config.log_directory.is_empty();
    wanted.then(|| Path::new(&sandbox.config.log_directory).join(&config.log_path))
}

/// The same for the shim, which follows no link after the `/./`: what the pod's directory leads to is
/// the node's, what is in it may be a container's doing.
fn parted(sandbox: &Sandbox, config: &ContainerConfig) -> Option<PathBuf> {
    let directory = Path::new(&sandbox.config.log_directory).join(".");
    log_path(sandbox, config).map(|_| directory.join(&config.log_path))
}

/// The kubelet makes a new file for the termination message at each try.
fn same_but_for_the_termination_log(old: &ContainerConfig, new: &ContainerConfig) -> bool {
    let path = old
        .annotations
        .get("io.kubernetes.container.terminationMessagePath")
        .map_or("/dev/termination-log", String::as_str);
    let strip = |config: &ContainerConfig| {
        let mut config = config.clone();
        for mount in config
            .mounts
            .iter_mut()
            .filter(|m| m.container_path == path)
        {
            mount.host_path.clear();
        }
        config
    };
    strip(old) == strip(new)
}

fn exists(old: &Container) -> Error {
    let state = if old.has_exited() {
        "exited"
    } else {
        "in use with another configuration"
    };
    Error::new(
        Kind::AlreadyExists,
        format!(
            "container {} of sandbox {} exists for attempt {} already ({state}): {}; remove it, or ask for another attempt",
            old.config.metadata.name, old.sandbox_id, old.config.metadata.attempt, old.id
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Mount;

    #[test]
    fn only_the_termination_log_may_differ_between_tries() {
        let with = |container_path: &str, host_path: &str| ContainerConfig {
            mounts: vec![Mount {
                container_path: container_path.to_owned(),
                host_path: host_path.to_owned(),
                ..Mount::default()
            }],
            ..ContainerConfig::default()
        };
        let log = "/dev/termination-log";
        assert!(same_but_for_the_termination_log(
            &with(log, "/a"),
            &with(log, "/b")
        ));
        assert!(!same_but_for_the_termination_log(
            &with("/data", "/a"),
            &with("/data", "/b")
        ));
    }
}
