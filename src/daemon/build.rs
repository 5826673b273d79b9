//! The adapters, joined to an engine.

use super::home;
use crate::cgroup::{Cgroups, HostCgroups, SYSTEMD_SOCKET, SystemdScopes};
use crate::config::systemd::DriverChoice;
use crate::config::{BundledPlugins, Config, host, systemd};
use crate::content::Content;
use crate::engine::{ConfTemplate, Engine, ImagePolicy, Images, Node, Ports};
use crate::error::{Context, Error, Kind, Result};
use crate::metrics::Metrics;
use crate::model::host::{CgroupDriver, HostFacts};
use crate::model::pod_cgroup::{PodCgroups, SystemdTree};
use crate::network::CniNetworks;
use crate::registry::{HttpRegistry, Settings};
use crate::snapshot::{Layers, Overlay, Projects};
use crate::store::{FileStore, Store};
use crate::task::{Program, ShimTasks, apparmor, probe_user_namespaces, seccomp};
use crate::verifier::Programs;
use corten_cni::{Bundle, Client};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What was built.
pub struct Built {
    /// The use cases, over the adapters of this node.
    pub engine: Arc<Engine>,
    /// Where a reload reaches the registries.
    pub registry: HttpRegistry,
}

/// An engine over the adapters of this node, with all objects of earlier daemons taken up.
///
/// # Errors
/// Which part of the node is not as it must be.
pub async fn engine(config: &Config, mut node: Node, metrics: &Metrics) -> Result<Built> {
    has_shim(&config.shim)?;
    let cgroups = HostCgroups::discover()?;
    let shims = home::settle(&cgroups)?;
    if let PodCgroups::Systemd(tree) = &mut node.cgroups {
        tree.cradles = home::cradles(&shims);
        let failed = || format!("make the cgroup {}", tree.cradles);
        cgroups
            .ensure(&tree.cradles)
            .context(Kind::Internal, failed)?;
    }
    let (sender, events) = mpsc::unbounded_channel();
    let program = Program::sealed(&config.shim).await;
    let containers = metrics.containers();
    let tasks = ShimTasks::new(program, &config.state, &shims, sender, containers);
    let layers = Arc::new(Layers::open(&config.root.join("layers"), &node.boot_id)?);
    let registry = HttpRegistry::new(registries(config));
    let store = Arc::new(FileStore::open(&config.root, &config.state)?);
    let writable = store.containers_dir();
    let projects = Projects::of(&writable);
    let ports = Ports {
        store,
        tasks: Arc::new(tasks.context(Kind::Internal, || in_state(config))?),
        networks: Arc::new(networks(config)),
        cgroups: Arc::new(cgroups),
        scopes: Arc::new(SystemdScopes::default()),
        health: metrics.health(),
        events: metrics.events(),
        apparmor: apparmor::Profiles::default(),
        snapshots: Arc::new(Overlay::new(Arc::clone(&layers), projects, &writable)),
        images: images(config, layers, registry.clone())?,
        seccomp: Arc::new(seccomp::Filters::new(config.root.join("seccomp"))),
    };
    let engine = Engine::start(ports, node, events).await?;
    Ok(Built { engine, registry })
}

/// What the use cases know of this node.
///
/// # Errors
/// Where this boot has no id, or systemd is to make cgroups and has not booted this host.
pub fn node(config: &Config) -> Result<Node> {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let boot_id = std::fs::read_to_string(BOOT_ID);
    let boot_id = boot_id.context(Kind::Internal, || format!("read {BOOT_ID}"))?;
    let template = config.cni.conf_template.clone();
    Ok(Node {
        state: config.state.clone(),
        host: with_profile(host::probe()),
        boot_id: boot_id.trim().to_owned(),
        cgroups: pod_cgroups(config.cgroup_driver)?,
        conf_template: template.map(|template| ConfTemplate {
            template,
            conf_dir: config.cni.conf_dir.clone(),
        }),
        cdi_dirs: config.cdi_spec_dirs.clone(),
        image_healthchecks: config.image_healthchecks,
    })
}

/// Who makes the cgroups of new pods: with `auto` systemd, where it is process 1.
fn pod_cgroups(choice: DriverChoice) -> Result<PodCgroups> {
    if choice == DriverChoice::Fixed(CgroupDriver::Cgroupfs) {
        return Ok(PodCgroups::Cgroupfs);
    }
    match systemd::root(Path::new(SYSTEMD_SOCKET)) {
        Ok(root) => Ok(PodCgroups::Systemd(SystemdTree {
            root,
            cradles: String::new(),
            asked_for: choice != DriverChoice::Auto,
        })),
        Err(why) if choice == DriverChoice::Auto => {
            tracing::debug!(why, "the cgroup driver is cgroupfs");
            Ok(PodCgroups::Cgroupfs)
        }
        Err(why) => Err(Error::precondition(format!(
            "`cgroup.driver` is \"systemd\", and {why}: write \"cgroupfs\" or \"auto\" for it into the configuration (/etc/corten/corten.toml)"
        ))),
    }
}

/// Loads the profile that Corten brings, where AppArmor is on. A node without it still runs pods:
/// only who asks for it by name is refused.
fn with_profile(host: HostFacts) -> HostFacts {
    if !host.apparmor {
        return host;
    }
    match apparmor::Profiles::default().load_default() {
        Ok(()) => HostFacts {
            apparmor_profile: true,
            ..host
        },
        Err(error) => {
            let error = Error::from(error).chain();
            tracing::warn!(%error, "containers that name no AppArmor profile run without one");
            host
        }
    }
}

/// Finds out what only the shim can: whether pods can have user namespaces, on the file system of
/// the root.
pub async fn try_out(config: &Config, host: &mut HostFacts) {
    let tried = probe_user_namespaces(&config.shim, &config.root).await;
    host.user_namespaces = tried.is_ok();
    host.no_user_namespaces = tried
        .as_ref()
        .err()
        .map_or_else(String::new, |error| crate::error::chain(error));
    if let Err(error) = &tried {
        tracing::info!(
            error = crate::error::chain(error),
            "pods cannot have user namespaces on this node"
        );
    }
}

fn networks(config: &Config) -> CniNetworks {
    let cni = &config.cni;
    let (mut bin_dirs, bundle) = (cni.bin_dirs.clone(), bundle(config));
    if let Some(bundle) = &bundle {
        let place = match cni.bundled_plugins {
            BundledPlugins::Prefer => 0,
            BundledPlugins::Fallback | BundledPlugins::Never => bin_dirs.len(),
        };
        bin_dirs.insert(place, bundle.directory().to_owned());
    }
    let client = Client::new(bin_dirs, cni.cache_dir.clone());
    let client = bundle.into_iter().fold(client, Client::with_bundle);
    CniNetworks::start(cni.conf_dir.clone(), client)
}

/// A node without the program runs on: its own plugins may be all that it needs.
fn bundle(config: &Config) -> Option<Bundle> {
    let cni = &config.cni;
    if cni.bundled_plugins == BundledPlugins::Never {
        return None;
    }
    let program = cni.program.display();
    if !cni.program.is_file() {
        tracing::warn!(
            "there are no bundled CNI plugins: {program} is not there, nor is corten-cni beside this program or in PATH"
        );
        return None;
    }
    let directory = config.state.join("cni-plugins");
    match Bundle::lay_out(cni.program.clone(), directory) {
        Ok(bundle) => Some(bundle),
        Err(error) => {
            tracing::warn!(%error, "the bundled CNI plugins cannot be used: links to {program} are not made");
            None
        }
    }
}

/// How registries are reached, as the configuration says.
#[must_use]
pub fn registries(config: &Config) -> Settings {
    let registry = &config.registry;
    Settings {
        config_paths: registry.config_path.clone(),
        registries_conf: Some(registry.registries_conf.clone()),
        auth_files: registry.auth_files.clone(),
        credential_helpers: registry.credential_helpers.clone(),
        progress_timeout: registry.progress_timeout,
        bandwidth_limit: registry.bandwidth_limit,
        ..Settings::default()
    }
}

/// What images have to keep to, as the configuration says.
#[must_use]
pub fn image_policy(config: &Config) -> ImagePolicy {
    let verifiers = &config.images.verifiers;
    ImagePolicy {
        verifier: Some(Arc::new(Programs {
            directory: verifiers.bin_dir.clone(),
            most: verifiers.max_verifiers,
            time_limit: verifiers.per_verifier_timeout,
        })),
        unpacking: config.images.unpacking,
        keep_blobs: config.images.keep_blobs,
    }
}

fn images(config: &Config, layers: Arc<Layers>, registry: HttpRegistry) -> Result<Arc<Images>> {
    let content = Content::open(&config.root.join("images"))?;
    let pinned = config.images.pinned.clone();
    let downloads = config.registry.max_concurrent_downloads;
    let content = Arc::new(content);
    let seals = config.images.fs_verity && has_verity(&layers);
    let images = Images::open(Arc::new(registry), content, layers, pinned, downloads)?;
    images.set_policy(image_policy(config));
    if seals {
        images.settle();
    }
    Ok(images)
}

/// A node without it runs on: only what its owner asked for is missing.
fn has_verity(layers: &Layers) -> bool {
    let begun = layers.begin_sealing();
    if let Err(error) = &begun {
        let error = crate::error::chain(error);
        tracing::warn!(
            error,
            "images.fs_verity is on, and layers are not sealed: the kernel needs CONFIG_FS_VERITY, and the file system the feature verity (ext4: tune2fs -O verity)"
        );
    }
    begun.is_ok()
}

fn in_state(config: &Config) -> String {
    format!("use the state directory {}", config.state.display())
}

fn has_shim(shim: &Path) -> Result<()> {
    match shim.is_file() {
        true => Ok(()),
        false => Err(Error::precondition(format!(
            "{} is not there, nor is corten-shim beside this program or in PATH",
            shim.display()
        ))),
    }
}
