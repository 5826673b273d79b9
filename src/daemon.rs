//! The whole daemon, put together: from what the configuration says to an engine that has taken up
//! what it finds.
//!
//! Invariant: everything that could fail at a start has been tried when this returns; only then is
//! the socket opened.

use crate::cgroup::{Cgroups, HostCgroups};
use crate::config::{Config, host};
use crate::content::Content;
use crate::engine::{Engine, Images, Node, Ports};
use crate::error::{Context, Error, Kind, Result};
use crate::network::CniNetworks;
use crate::registry::{HttpRegistry, Settings};
use crate::snapshot::{Layers, Overlay};
use crate::store::FileStore;
use crate::task::{ShimTasks, seccomp};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Where the daemon and its shims live when no service manager gave them a home.
const HOME: &str = "/corten";

/// A registry that sends nothing for this long is given up.
const NO_PROGRESS: Duration = Duration::from_secs(60);

/// A daemon that is ready to serve.
pub struct Daemon {
    /// The runtime.
    pub engine: Arc<Engine>,
    /// Held as long as the daemon lives: there is one on a root directory.
    _lock: File,
}

impl Daemon {
    /// Puts the daemon together and takes up what an earlier one left.
    ///
    /// # Errors
    /// Which part of the node is not as it must be, and what to do about it.
    pub async fn build(config: &Config) -> Result<Self> {
        make_dir(&config.root)?;
        make_dir(&config.state)?;
        let lock = lock(&config.root)?;
        let node = node(config)?;
        let cgroups = Arc::new(HostCgroups::discover()?);
        let shims = settle(cgroups.as_ref())?;
        let (sender, events) = mpsc::unbounded_channel();
        let tasks = ShimTasks::new(&config.shim, &config.state, Path::new(&shims), sender);
        let layers = Arc::new(Layers::open(&config.root.join("layers"), &node.boot_id)?);
        let cni = &config.cni;
        let ports = Ports {
            store: Arc::new(FileStore::open(&config.root)?),
            tasks: Arc::new(tasks.context(Kind::Internal, || in_state(config))?),
            networks: Arc::new(CniNetworks::start(
                cni.conf_dir.clone(),
                cni.bin_dirs.clone(),
                cni.cache_dir.clone(),
            )),
            cgroups,
            snapshots: Arc::new(Overlay::new(Arc::clone(&layers))),
            images: images(config, layers)?,
            seccomp: Arc::new(seccomp::Filters::new(config.root.join("seccomp"))),
        };
        let engine = Engine::start(ports, node, events).await?;
        Ok(Self {
            engine,
            _lock: lock,
        })
    }
}

fn images(config: &Config, layers: Arc<Layers>) -> Result<Arc<Images>> {
    let registry = HttpRegistry::new(Settings {
        config_paths: config.registry.config_path.clone(),
        progress_timeout: NO_PROGRESS,
    });
    let content = Content::open(&config.root.join("images"))?;
    let pinned = config.images.pinned.clone();
    Images::open(Arc::new(registry), Arc::new(content), layers, pinned)
}

fn in_state(config: &Config) -> String {
    format!("use the state directory {}", config.state.display())
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).context(Kind::Internal, || {
        format!("create {}: is Corten run as root?", path.display())
    })
}

/// One daemon a root directory: two would undo each other's work.
fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let failed = || format!("lock {}", path.display());
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .context(Kind::Internal, failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        return Err(Error::precondition(format!(
            "{} is in use by another corten (pid {}); stop it, or give this one another root",
            root.display(),
            holder.trim()
        )));
    }
    let write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    let mut write = write;
    write().context(Kind::Internal, failed)?;
    Ok(file)
}

fn node(config: &Config) -> Result<Node> {
    let path = "/proc/sys/kernel/random/boot_id";
    let boot_id = fs::read_to_string(path).context(Kind::Internal, || format!("read {path}"))?;
    Ok(Node {
        state: config.state.clone(),
        host: host::probe(),
        boot_id: boot_id.trim().to_owned(),
    })
}

/// Moves the daemon into a cgroup of its own and makes the one of the shims beside it: a shim never
/// lives in a pod's cgroup, nor in one that ends with the daemon. Tells that of the shims.
fn settle(cgroups: &dyn Cgroups) -> Result<String> {
    let home = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| service(&text));
    let home = home.unwrap_or_else(|| HOME.to_owned());
    let (daemon, shims) = (format!("{home}/daemon"), format!("{home}/shims"));
    cgroups.ensure(&daemon)?;
    cgroups.ensure(&shims)?;
    cgroups.enter(&daemon)?;
    Ok(shims)
}

/// The cgroup of the systemd unit that this process is in, if it is in one: the unit is delegated.
fn service(cgroups: &str) -> Option<String> {
    let path = cgroups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then_some(path)
    })?;
    let end = path.find(".service")? + ".service".len();
    Some(path[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_cgroup_is_the_home_of_its_daemon_and_shims() {
        let own = "0::/system.slice/corten.service/daemon\n";
        assert_eq!(service(own).unwrap(), "/system.slice/corten.service");
        let hybrid = "4:memory:/\n1:name=systemd:/system.slice/corten.service\n0::/\n";
        // The first that could name it counts; the kernel lists v2 last.
        assert_eq!(service(hybrid).unwrap(), "/system.slice/corten.service");
        assert_eq!(service("1:name=systemd:/\n0::/user.slice/x.scope\n"), None);
    }

    #[test]
    fn a_root_has_one_daemon_and_the_second_is_told_which() {
        let root = tempfile::tempdir().unwrap();
        let _first = lock(root.path()).unwrap();
        let error = lock(root.path()).unwrap_err();
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
    }
}
