//! Records in memory, for tests of the engine: stands for a disk that can be told to refuse.

use super::{Loaded, Store, StoreError};
use crate::id::{ContainerId, Digest, ImageId, SandboxId};
use crate::model::container::{Container, ContainerConfig, ContainerState};
use crate::model::resources::Resources;
use crate::model::sandbox::{
    Namespaces, PodMetadata, Release, Sandbox, SandboxConfig, SandboxState,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Records in memory.
#[derive(Debug, Default)]
pub struct FileStore {
    sandboxes: Mutex<BTreeMap<SandboxId, Sandbox>>,
    containers: Mutex<BTreeMap<ContainerId, Container>>,
    torn: Mutex<(Vec<SandboxId>, Vec<ContainerId>)>,
    full: AtomicBool,
    root: PathBuf,
}

impl FileStore {
    /// One whose containers' directories are below this path.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            ..Self::default()
        }
    }

    /// From now on every write is refused, as by a full disk.
    pub fn fill(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// All records of this sandbox are torn.
    pub fn tear_sandbox(&self, id: &SandboxId) {
        locked(&self.sandboxes).remove(id);
        locked(&self.torn).0.push(id.clone());
    }

    /// All records of this container are torn.
    pub fn tear_container(&self, id: &ContainerId) {
        locked(&self.containers).remove(id);
        locked(&self.torn).1.push(id.clone());
    }

    fn room(&self) -> Result<(), StoreError> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(StoreError::io(
                "write the record",
                Path::new("memory"),
                std::io::ErrorKind::StorageFull.into(),
            )),
            false => Ok(()),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Store for FileStore {
    fn save_sandbox(&self, sandbox: &Sandbox) -> Result<(), StoreError> {
        self.room()?;
        locked(&self.sandboxes).insert(sandbox.id.clone(), sandbox.clone());
        Ok(())
    }

    fn save_container(&self, container: &Container) -> Result<(), StoreError> {
        self.room()?;
        locked(&self.containers).insert(container.id.clone(), container.clone());
        Ok(())
    }

    fn remove_sandbox(&self, id: &SandboxId) -> Result<(), StoreError> {
        locked(&self.sandboxes).remove(id);
        locked(&self.torn).0.retain(|torn| torn != id);
        Ok(())
    }

    fn remove_container(&self, id: &ContainerId) -> Result<(), StoreError> {
        locked(&self.containers).remove(id);
        locked(&self.torn).1.retain(|torn| torn != id);
        Ok(())
    }

    fn load(&self) -> Result<Loaded, StoreError> {
        let (torn_sandboxes, torn_containers) = locked(&self.torn).clone();
        Ok(Loaded {
            sandboxes: locked(&self.sandboxes).values().cloned().collect(),
            containers: locked(&self.containers).values().cloned().collect(),
            torn_sandboxes,
            torn_containers,
            unread_sandboxes: Vec::new(),
            unreadable: Vec::new(),
        })
    }

    fn containers_dir(&self) -> PathBuf {
        self.root.clone()
    }

    fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    fn bundle_dir(&self, id: &ContainerId) -> PathBuf {
        self.root.join("bundles").join(id.as_str())
    }
}

/// A ready sandbox of a pod with this name.
#[must_use]
pub fn a_sandbox(name: &str) -> Sandbox {
    let metadata = PodMetadata {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        namespace: "default".to_owned(),
        attempt: 0,
    };
    Sandbox {
        id: SandboxId::random(),
        config: SandboxConfig {
            metadata,
            ..SandboxConfig::default()
        },
        handler: String::new(),
        state: SandboxState::Ready,
        created_at: 1,
        boot_id: "boot".to_owned(),
        namespaces: Namespaces::default(),
        network: None,
        release: Release::default(),
        ips: Vec::new(),
        scope: None,
        selinux_level: None,
    }
}

/// A container in this state, of a sandbox that nobody knows.
#[must_use]
pub fn a_container(state: ContainerState) -> Container {
    Container {
        id: ContainerId::random(),
        sandbox_id: SandboxId::random(),
        config: ContainerConfig::default(),
        image_id: ImageId(Digest::of(b"image")),
        image_ref: String::new(),
        image_volumes: BTreeMap::new(),
        state,
        created_at: 1,
        started_at: 0,
        boot_id: "boot".to_owned(),
        pid: 0,
        start_time: 0,
        stop_signal: 15,
        cgroup: String::new(),
        log_path: None,
        user: None,
        healthcheck: None,
        resources: Resources::default(),
    }
}
