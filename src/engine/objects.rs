//! What exists, in memory: one cell an object.
//!
//! A cell's record is replaced whole, so whoever reads it holds a picture that does not change.
//!
//! Invariant: what follows of a change of state is entered in the journal before anything else changes its
//! state, so who follows is told in the order in which lists have changed.

use super::journal::{Entry, Journal, Page};
use super::now;
use super::stats::Layer;
use crate::error::{Error, Result};
use crate::id::{ContainerId, SandboxId};
use crate::metrics::EventMetrics;
use crate::model::container::{Container, ContainerState};
use crate::model::event::{self, EventKind};
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
pub struct Objects {
    sandboxes: RwLock<BTreeMap<String, Arc<SandboxCell>>>,
    containers: RwLock<BTreeMap<String, Arc<ContainerCell>>>,
    journal: Journal,
}

impl Objects {
    /// None yet; those who follow what happens are counted.
    pub fn new(metrics: EventMetrics) -> Self {
        Self {
            sandboxes: RwLock::default(),
            containers: RwLock::default(),
            journal: Journal::new(metrics, now()),
        }
    }

    /// What happened, for those who follow it.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Enters a sandbox, of whom others know this state, or who is new to them: `Creating`.
    pub fn announce_sandbox(&self, cell: Arc<SandboxCell>, known: SandboxState) {
        let mut page = self.journal.open();
        let sandbox = cell.record();
        self.add_sandbox(cell);
        for kind in event::of_sandbox(known, sandbox.state) {
            self.enter(&mut page, *kind, sandbox.id.as_str(), &sandbox);
        }
    }

    /// Changes a sandbox's record, and gives the new one.
    pub fn change_sandbox(
        &self,
        cell: &SandboxCell,
        change: impl FnOnce(&mut Sandbox),
    ) -> Arc<Sandbox> {
        let mut page = self.journal.open();
        let before = cell.record().state;
        let after = cell.change(change);
        for kind in event::of_sandbox(before, after.state) {
            self.enter(&mut page, *kind, after.id.as_str(), &after);
        }
        after
    }

    /// Changes a container's record, and gives the new one.
    pub fn change_container(
        &self,
        cell: &ContainerCell,
        change: impl FnOnce(&mut Container),
    ) -> Arc<Container> {
        let mut page = self.journal.open();
        let before = cell.record();
        let after = cell.change(change);
        for kind in event::of_container(&before, &after) {
            self.enter_container(&mut page, kind, &after);
        }
        after
    }

    fn enter_container(&self, page: &mut Page<'_>, kind: EventKind, container: &Container) {
        // A container without a sandbox is being undone.
        if let Ok(Some(sandbox)) = self.sandbox(container.sandbox_id.as_str()) {
            self.enter(page, kind, container.id.as_str(), &sandbox.record());
        }
    }

    fn enter(&self, page: &mut Page<'_>, kind: EventKind, subject: &str, sandbox: &Arc<Sandbox>) {
        // Taken before anything is read: all that happened until then is told.
        let now = now();
        if !page.is_wanted(now) {
            return;
        }
        let at = page.time(now);
        let containers = page.is_followed();
        page.enter(Entry {
            kind,
            subject: subject.to_owned(),
            at,
            sandbox: Arc::clone(sandbox),
            containers: containers.then(|| self.told_containers_of(&sandbox.id)),
        });
    }

    /// The containers of a sandbox that are not still being made, as they are now, the oldest first.
    pub fn told_containers_of(&self, id: &SandboxId) -> Vec<Arc<Container>> {
        let cells = self.containers_of(id);
        let mut told: Vec<_> = cells.iter().map(|cell| cell.record()).collect();
        told.retain(|container| container.state != ContainerState::Creating);
        told.sort_by_key(|container| container.created_at);
        told
    }

    /// Enters a sandbox, and tells nobody.
    fn add_sandbox(&self, cell: Arc<SandboxCell>) {
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
        let mut page = self.journal.open();
        let removed = self
            .sandboxes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id.as_str());
        if let Some(cell) = removed {
            self.enter(&mut page, EventKind::Deleted, id.as_str(), &cell.record());
        }
    }

    /// Strikes a container out.
    pub fn remove_container(&self, id: &ContainerId) {
        let mut page = self.journal.open();
        let removed = self
            .containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id.as_str());
        let told = removed.map(|cell| cell.record());
        // Nobody was told of one that was still being made.
        if let Some(container) = told.filter(|one| one.state != ContainerState::Creating) {
            self.enter_container(&mut page, EventKind::Deleted, &container);
        }
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
        let objects = Objects::new(EventMetrics::default());
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
