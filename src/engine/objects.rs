//! What exists, in memory: one cell an object.
//!
//! A cell's record is replaced whole, so whoever reads it holds a picture that does not change.

use super::stats::Layer;
use crate::error::{Error, Result};
use crate::id::{ContainerId, SandboxId};
use crate::model::container::{Container, ContainerState};
use crate::model::health::Health;
use crate::model::sandbox::{Sandbox, SandboxState};
use crate::model::stats::CpuHistory;
use crate::task::Task;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::watch;

/// A sandbox.
pub struct SandboxCell {
    record: Mutex<Arc<Sandbox>>,
    /// Shared by those who make something in the sandbox, alone for who stops or removes it.
    pub gate: tokio::sync::RwLock<()>,
    /// Held over a whole stop: two of them would run a plugin twice at once.
    pub teardown: tokio::sync::Mutex<()>,
    /// Held by who changes its limits.
    pub resizing: tokio::sync::Mutex<()>,
    /// Earlier readings of its CPU time.
    pub cpu: Mutex<CpuHistory>,
    /// The answer to the call that made it reached its caller.
    pub acknowledged: AtomicBool,
    /// True once it is not ready any more.
    over: watch::Sender<bool>,
}

impl SandboxCell {
    /// A cell for this record.
    pub fn new(record: Sandbox) -> Self {
        let over = watch::Sender::new(record.state == SandboxState::NotReady);
        Self {
            over,
            record: Mutex::new(Arc::new(record)),
            gate: tokio::sync::RwLock::new(()),
            teardown: tokio::sync::Mutex::new(()),
            resizing: tokio::sync::Mutex::new(()),
            cpu: Mutex::default(),
            acknowledged: AtomicBool::new(false),
        }
    }

    /// The record as it is now.
    pub fn record(&self) -> Arc<Sandbox> {
        Arc::clone(&locked(&self.record))
    }

    /// Changes the record, and gives the new one.
    pub fn change(&self, change: impl FnOnce(&mut Sandbox)) -> Arc<Sandbox> {
        let mut record = locked(&self.record);
        change(Arc::make_mut(&mut record));
        if record.state == SandboxState::NotReady {
            self.over.send_replace(true);
        }
        Arc::clone(&record)
    }

    /// Waits until it is not ready any more.
    pub async fn not_ready(&self) {
        // The sender is this cell's own, so the wait cannot fail.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }
}

/// A container.
pub struct ContainerCell {
    record: Mutex<Arc<Container>>,
    /// Held by who starts or removes it.
    pub gate: tokio::sync::Mutex<()>,
    /// Earlier readings of its CPU time.
    pub cpu: Mutex<CpuHistory>,
    /// What its writable layer takes.
    pub layer: Layer,
    /// What checks of its health have found.
    pub health: Mutex<Health>,
    task: Mutex<Option<Arc<dyn Task>>>,
    /// True once it has ended.
    pub exited: watch::Sender<bool>,
    /// Held by who seeks its shim: who lost it meanwhile leaves that to them.
    pub seeking: tokio::sync::Mutex<()>,
    /// Held by who ends it without a shim.
    pub last_rites: tokio::sync::Mutex<()>,
    /// It was asked to end once already.
    pub stop_signalled: AtomicBool,
    /// The answer to the call that made it reached its caller.
    pub acknowledged: AtomicBool,
}

impl ContainerCell {
    /// A cell for this record.
    pub fn new(record: Container) -> Self {
        let exited = watch::Sender::new(record.has_exited());
        Self {
            record: Mutex::new(Arc::new(record)),
            gate: tokio::sync::Mutex::new(()),
            cpu: Mutex::default(),
            layer: Layer::default(),
            health: Mutex::default(),
            task: Mutex::new(None),
            exited,
            seeking: tokio::sync::Mutex::new(()),
            last_rites: tokio::sync::Mutex::new(()),
            stop_signalled: AtomicBool::new(false),
            acknowledged: AtomicBool::new(false),
        }
    }

    /// The record as it is now.
    pub fn record(&self) -> Arc<Container> {
        Arc::clone(&locked(&self.record))
    }

    /// Changes the record, and gives the new one. A container that has ended stays so: the news of
    /// its end may arrive before the answer to the call that started it.
    pub fn change(&self, change: impl FnOnce(&mut Container)) -> Arc<Container> {
        let mut record = locked(&self.record);
        let ended = record.has_exited().then(|| record.state.clone());
        let new = Arc::make_mut(&mut record);
        change(new);
        if let Some(ended) = ended {
            new.state = ended;
        }
        let exited = new.has_exited();
        let new = Arc::clone(&record);
        drop(record);
        if exited {
            self.exited.send_replace(true);
        }
        new
    }

    /// Its shim; `None` when there is none any more.
    pub fn task(&self) -> Option<Arc<dyn Task>> {
        locked(&self.task).clone()
    }

    /// Its shim is this, or there is none.
    pub fn set_task(&self, task: Option<Arc<dyn Task>>) {
        *locked(&self.task) = task;
    }

    /// Lets go of a shim whose connection has ended, unless another has come in its place.
    pub fn drop_lost_task(&self) {
        locked(&self.task).take_if(|task| task.is_lost());
    }

    /// It lives, and nobody tells of it.
    pub fn lacks_shim(&self) -> bool {
        !self.record().has_exited() && self.task().is_none_or(|task| task.is_lost())
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        // The sender is this cell's own, so the wait cannot fail.
        let _ = self.exited.subscribe().wait_for(|exited| *exited).await;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All cells.
#[derive(Default)]
pub struct Objects {
    sandboxes: RwLock<BTreeMap<String, Arc<SandboxCell>>>,
    containers: RwLock<BTreeMap<String, Arc<ContainerCell>>>,
}

impl Objects {
    /// Enters a sandbox.
    pub fn add_sandbox(&self, cell: Arc<SandboxCell>) {
        let id = cell.record().id.as_str().to_owned();
        self.sandboxes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, cell);
    }

    /// Enters a container.
    pub fn add_container(&self, cell: Arc<ContainerCell>) {
        let id = cell.record().id.as_str().to_owned();
        self.containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, cell);
    }

    /// Strikes a sandbox out.
    pub fn remove_sandbox(&self, id: &SandboxId) {
        self.sandboxes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id.as_str());
    }

    /// Strikes a container out.
    pub fn remove_container(&self, id: &ContainerId) {
        self.containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id.as_str());
    }

    /// The sandbox of this id, or of the only id that begins so.
    pub fn sandbox(&self, id: &str) -> Result<Option<Arc<SandboxCell>>> {
        find(
            &self
                .sandboxes
                .read()
                .unwrap_or_else(PoisonError::into_inner),
            id,
            "sandbox",
        )
    }

    /// The container of this id, or of the only id that begins so.
    pub fn container(&self, id: &str) -> Result<Option<Arc<ContainerCell>>> {
        find(
            &self
                .containers
                .read()
                .unwrap_or_else(PoisonError::into_inner),
            id,
            "container",
        )
    }

    /// The sandboxes that are not still being made.
    pub fn sandboxes(&self) -> Vec<Arc<SandboxCell>> {
        let all = self
            .sandboxes
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        all.values()
            .filter(|c| c.record().state != SandboxState::Creating)
            .cloned()
            .collect()
    }

    /// The containers that are not still being made.
    pub fn containers(&self) -> Vec<Arc<ContainerCell>> {
        let all = self
            .containers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        all.values()
            .filter(|c| c.record().state != ContainerState::Creating)
            .cloned()
            .collect()
    }

    /// The containers of a sandbox, those still being made as well.
    pub fn containers_of(&self, id: &SandboxId) -> Vec<Arc<ContainerCell>> {
        let all = self
            .containers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        all.values()
            .filter(|c| c.record().sandbox_id == *id)
            .cloned()
            .collect()
    }
}

fn find<C>(all: &BTreeMap<String, Arc<C>>, id: &str, what: &str) -> Result<Option<Arc<C>>> {
    if id.is_empty() {
        return Err(Error::invalid(format!("the {what} id is empty")));
    }
    let mut candidates = all
        .range(id.to_owned()..)
        .take_while(|(key, _)| key.starts_with(id));
    match (candidates.next(), candidates.next()) {
        (Some((_, cell)), None) => Ok(Some(Arc::clone(cell))),
        (Some(_), Some(_)) => Err(Error::invalid(format!(
            "more than one {what} id begins {id:?}"
        ))),
        (None, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fakes::a_sandbox;

    #[test]
    fn an_object_is_found_by_the_only_beginning() {
        let objects = Objects::default();
        let cell = Arc::new(SandboxCell::new(a_sandbox("a")));
        let id = cell.record().id.clone();
        objects.add_sandbox(cell);
        assert!(objects.sandbox(&id.as_str()[..12]).unwrap().is_some());
        assert!(objects.sandbox("zz").unwrap().is_none());
        assert!(objects.sandbox("").is_err());
        for _ in 0..17 {
            objects.add_sandbox(Arc::new(SandboxCell::new(a_sandbox("b"))));
        }
        let first_digits: Vec<_> = "0123456789abcdef".chars().map(|c| c.to_string()).collect();
        let doubtful = first_digits
            .iter()
            .filter(|d| objects.sandbox(d).is_err())
            .count();
        assert!(doubtful > 0, "eighteen ids share sixteen first digits");
    }
}
