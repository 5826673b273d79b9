//! Containers without processes, for tests of the engine: stands for shims that do what they are
//! told, or refuse one verb.

use super::{
    CreateOrder, Exec, ExecOrder, Launched, Task, TaskError, TaskEvent, TaskEventKind, Tasks,
    Vacancy,
};
use crate::id::{ContainerId, SandboxId};
use crate::model::container::{Exit, ResolvedUser};
use crate::model::sandbox::{Namespaces, Sandbox};
use async_trait::async_trait;
use corten_shim::api::{Failure, FailureKind, Health};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// SIGTERM and SIGKILL end a fake container; anything else it ignores.
const DEADLY: [i32; 2] = [15, 9];

/// What is there, and what was asked.
#[derive(Debug, Default)]
struct World {
    pinned: BTreeSet<PathBuf>,
    alive: BTreeMap<ContainerId, bool>,
    refused: Option<&'static str>,
    ignores_term: bool,
    signals: Vec<i32>,
    updates: Vec<String>,
}

/// Containers without processes.
#[derive(Debug, Clone)]
pub struct ShimTasks {
    world: Arc<Mutex<World>>,
    events: mpsc::UnboundedSender<TaskEvent>,
}

impl ShimTasks {
    /// With news of containers into `events`.
    #[must_use]
    pub fn new(events: mpsc::UnboundedSender<TaskEvent>) -> Self {
        Self {
            world: Arc::default(),
            events,
        }
    }

    /// The same world, with its news told to another daemon.
    #[must_use]
    pub fn report_to(self, events: mpsc::UnboundedSender<TaskEvent>) -> Self {
        Self {
            world: self.world,
            events,
        }
    }

    /// From now on this verb is refused.
    pub fn refuse(&self, verb: &'static str) {
        self.world().refused = Some(verb);
    }

    /// From now on containers ignore SIGTERM.
    pub fn ignore_term(&self) {
        self.world().ignores_term = true;
    }

    /// The pins that are there.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.world().pinned.len()
    }

    /// The containers whose shims are there.
    #[must_use]
    pub fn containers(&self) -> usize {
        self.world().alive.len()
    }

    /// The signals that were sent, in order.
    #[must_use]
    pub fn signals(&self) -> Vec<i32> {
        self.world().signals.clone()
    }

    /// The limits that were set, in order.
    #[must_use]
    pub fn updates(&self) -> Vec<String> {
        self.world().updates.clone()
    }

    /// A shim is killed: nobody says how its container ended.
    pub fn lose_shim(&self, id: &ContainerId) {
        self.world().alive.remove(id);
        self.tell(id, TaskEventKind::ShimLost);
    }

    /// The process that holds a sandbox's PID namespace is killed.
    pub fn end_holder(&self, sandbox: &SandboxId) {
        let _ = self.events.send(TaskEvent::HolderEnded(sandbox.clone()));
    }

    /// A shim goes while no daemon runs that could be told.
    pub fn forget(&self, id: &ContainerId) {
        self.world().alive.remove(id);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, verb: &'static str) -> Result<(), TaskError> {
        match self.world().refused == Some(verb) {
            true => Err(TaskError::Refused {
                verb,
                failure: refusal(verb),
            }),
            false => Ok(()),
        }
    }

    fn tell(&self, id: &ContainerId, kind: TaskEventKind) {
        let _ = self.events.send(TaskEvent::Container {
            container: id.clone(),
            kind,
        });
    }

    fn launched(&self, id: &ContainerId, started_at: i64) -> Launched {
        Launched {
            task: Arc::new(FakeTask {
                id: id.clone(),
                tasks: self.clone(),
            }),
            pid: 4_000_000,
            start_time: 1,
            started_at,
            user: ResolvedUser::default(),
            exit: None,
        }
    }
}

fn refusal(verb: &str) -> Failure {
    Failure {
        kind: FailureKind::System,
        step: verb.to_owned(),
        errno: 5,
        chain: vec!["told to refuse".to_owned()],
    }
}

#[async_trait]
impl Tasks for ShimTasks {
    fn ready(&self) -> Result<(), String> {
        self.check("ready").map_err(|e| e.to_string())
    }

    async fn pin(&self, sandbox: &Sandbox) -> Result<Option<(i32, u64)>, TaskError> {
        // Half done, as a kill in the middle would leave it.
        self.world().pinned.extend(sandbox.namespaces.uts.clone());
        self.check("pin")?;
        self.world()
            .pinned
            .extend(sandbox.namespaces.network.clone());
        Ok(None)
    }

    async fn unpin(&self, namespaces: &Namespaces) -> Result<(), TaskError> {
        self.check("unpin")?;
        for path in [&namespaces.uts, &namespaces.network].into_iter().flatten() {
            self.world().pinned.remove(path);
        }
        Ok(())
    }

    fn is_pinned(&self, namespaces: &Namespaces) -> bool {
        let pin = namespaces.network.as_ref();
        pin.is_none_or(|pin| self.world().pinned.contains(pin))
    }

    fn watch_holder(&self, _sandbox: &SandboxId, _holder: (i32, u64)) -> bool {
        true
    }

    fn launch(&self, _id: &ContainerId) -> Result<Box<dyn Vacancy>, TaskError> {
        self.check("launch")?;
        Ok(Box::new(FakeVacancy(self.clone())))
    }

    async fn reconnect(&self, id: &ContainerId) -> Result<Option<Launched>, TaskError> {
        self.check("reconnect")?;
        let started = self.world().alive.get(id).copied();
        Ok(started.map(|started| self.launched(id, i64::from(started))))
    }

    fn forget(&self, _id: &ContainerId) -> Result<(), TaskError> {
        self.check("forget")
    }

    async fn exec(&self, _order: ExecOrder) -> Result<Exec, TaskError> {
        Err(TaskError::Refused {
            verb: "exec",
            failure: refusal("exec"),
        })
    }
}

struct FakeVacancy(ShimTasks);

#[async_trait]
impl Vacancy for FakeVacancy {
    async fn create(self: Box<Self>, order: CreateOrder) -> Result<Launched, TaskError> {
        self.0.check("create")?;
        self.0.world().alive.insert(order.id.clone(), false);
        Ok(self.0.launched(&order.id, 0))
    }
}

struct FakeTask {
    id: ContainerId,
    tasks: ShimTasks,
}

#[async_trait]
impl Task for FakeTask {
    async fn start(&self) -> Result<i64, TaskError> {
        self.tasks.check("start")?;
        self.tasks.world().alive.insert(self.id.clone(), true);
        Ok(1)
    }

    async fn signal(&self, signal: i32) -> Result<(), TaskError> {
        let mut world = self.tasks.world();
        world.signals.push(signal);
        // Without its shim nobody sees its end.
        let ignored = (signal == 15 && world.ignores_term) || !world.alive.contains_key(&self.id);
        drop(world);
        if DEADLY.contains(&signal) && !ignored {
            let exit = Exit {
                code: 128 + signal,
                reason: "Error".to_owned(),
                message: String::new(),
                finished_at: 2,
            };
            self.tasks
                .tell(&self.id, TaskEventKind::Exited { exit, seq: 1 });
        }
        Ok(())
    }

    async fn reopen_log(&self) -> Result<(), TaskError> {
        self.tasks.check("reopen_log")
    }

    async fn update(&self, resources: String) -> Result<(), TaskError> {
        self.tasks.check("update")?;
        self.tasks.world().updates.push(resources);
        Ok(())
    }

    async fn health(&self) -> Result<Health, TaskError> {
        Ok(Health::default())
    }

    async fn shutdown(&self) -> Result<(), TaskError> {
        self.tasks.check("shutdown")?;
        self.tasks.world().alive.remove(&self.id);
        Ok(())
    }

    async fn acknowledge(&self, _seq: u64) {}
}
