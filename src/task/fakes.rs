//! Containers without processes, for tests of the engine: stands for shims that do what they are
//! told, or refuse one verb.

use super::socket::PacketSocket;
use super::{
    AttachOrder, Attachment, CreateOrder, Dialer, Exec, ExecOrder, Launched, Task, TaskError,
    TaskEvent, TaskEventKind, Tasks, Vacancy,
};
use crate::id::{ContainerId, SandboxId};
use crate::model::container::{Exit, ResolvedUser};
use crate::model::sandbox::{Namespaces, Sandbox};
use async_trait::async_trait;
use corten_shim::api::{ExecControl, ExecReply, Failure, FailureKind, Health};
use corten_shim::packet;
use rustix::fd::OwnedFd;
use rustix::pipe::PipeFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// SIGTERM and SIGKILL end a fake container; anything else it ignores.
const DEADLY: [i32; 2] = [15, 9];

/// The pid and start time of a holder.
pub const HOLDER: (i32, u64) = (3_999_999, 1);

/// What is there, and what was asked.
#[derive(Debug, Default)]
struct World {
    pinned: BTreeSet<PathBuf>,
    alive: BTreeMap<ContainerId, bool>,
    /// How often the connection to a shim was cut.
    cuts: BTreeMap<ContainerId, usize>,
    /// How often a shim was sought.
    sought: usize,
    /// What a helper of a killed daemon is still to pin.
    late: Option<PathBuf>,
    refused: Option<&'static str>,
    slow: Option<&'static str>,
    ignores_term: bool,
    signals: Vec<i32>,
    updates: Vec<String>,
    execs: Vec<FakeExec>,
    attached: Vec<FakeAttach>,
    slow_clients: u64,
    sizes: Vec<(u16, u16)>,
    dialled: Option<Option<PathBuf>>,
}

impl World {
    fn cuts(&self, id: &ContainerId) -> usize {
        self.cuts.get(id).copied().unwrap_or_default()
    }

    /// One of its signals has ended the only container.
    fn is_killed(&self) -> bool {
        let deadly = |signal| DEADLY.contains(signal) && !(*signal == 15 && self.ignores_term);
        self.signals.iter().any(deadly)
    }
}

/// The process's side of an exec. Dropped, its shim has gone.
#[derive(Debug)]
pub struct FakeExec {
    /// What was asked for.
    pub order: ExecOrder,
    /// Its ends of its streams.
    pub streams: Vec<OwnedFd>,
    socket: OwnedFd,
}

impl FakeExec {
    /// It ends.
    pub fn exit(&self, code: i32) {
        let timed_out = false;
        let exited = ExecReply::Exited { code, timed_out };
        packet::send(&self.socket, &exited, &[]).unwrap();
    }

    /// What it is told next; `None`: its client has gone.
    #[must_use]
    pub fn told(&self) -> Option<ExecControl> {
        let told = packet::receive(&self.socket).unwrap();
        told.map(|told| told.message)
    }
}

/// The container's side of an attach.
#[derive(Debug)]
pub struct FakeAttach {
    /// What was asked for.
    pub order: AttachOrder,
    /// The container's ends.
    pub streams: Vec<OwnedFd>,
    /// Cuts the client off.
    pub cut: oneshot::Sender<()>,
}

/// Pipes: the client's ends, and those of the process.
fn pipes(stdin: bool, outputs: usize) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stdin = stdin.then(|| {
        let (theirs, ours) = pipe();
        (ours, theirs)
    });
    let outputs = std::iter::repeat_with(pipe).take(outputs);
    stdin.into_iter().chain(outputs).unzip()
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

    /// From now on this verb is not answered in time.
    pub fn slow_down(&self, verb: &'static str) {
        self.world().slow = Some(verb);
    }

    /// From now on containers ignore SIGTERM.
    pub fn ignore_term(&self) {
        self.world().ignores_term = true;
    }

    /// A helper of a daemon that was killed pins this before it ends, or later where it is let be.
    pub fn pin_late(&self, path: PathBuf) {
        self.world().pinned.remove(&path);
        self.world().late = Some(path);
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

    /// The exec that was started first and not yet taken.
    #[must_use]
    pub fn exec(&self) -> FakeExec {
        self.try_exec().unwrap()
    }

    /// The same, where there is one.
    #[must_use]
    pub fn try_exec(&self) -> Option<FakeExec> {
        let mut world = self.world();
        (!world.execs.is_empty()).then(|| world.execs.remove(0))
    }

    /// The client that attached first and was not yet taken.
    #[must_use]
    pub fn attached(&self) -> FakeAttach {
        self.world().attached.remove(0)
    }

    /// The sizes that terminals were given, in order.
    #[must_use]
    pub fn sizes(&self) -> Vec<(u16, u16)> {
        self.world().sizes.clone()
    }

    /// The network in which a dialer was started last.
    #[must_use]
    pub fn dialled(&self) -> Option<Option<PathBuf>> {
        self.world().dialled.clone()
    }

    /// A shim is killed: nobody says how its container ended.
    pub fn lose_shim(&self, id: &ContainerId) {
        self.world().alive.remove(id);
        self.tell(id, TaskEventKind::ShimLost);
    }

    /// The connection to a shim ends; the shim lives.
    pub fn cut_off(&self, id: &ContainerId) {
        *self.world().cuts.entry(id.clone()).or_default() += 1;
        self.tell(id, TaskEventKind::ShimLost);
    }

    /// A shim has cut off one who did not read.
    pub fn count_slow_client(&self) {
        self.world().slow_clients += 1;
    }

    /// How often a shim was sought.
    #[must_use]
    pub fn sought(&self) -> usize {
        self.world().sought
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
        if self.world().slow == Some(verb) {
            let limit = Duration::ZERO;
            return Err(TaskError::Slow { verb, limit });
        }
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
                cuts: self.world().cuts(id),
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
        Ok(sandbox.scope.as_ref().map(|_| HOLDER))
    }

    async fn end_strays(&self) {
        let late = std::mem::take(&mut self.world().late);
        self.world().pinned.extend(late);
    }

    async fn unpin(&self, namespaces: &Namespaces) -> Result<(), TaskError> {
        self.check("unpin")?;
        for path in [&namespaces.uts, &namespaces.network].into_iter().flatten() {
            self.world().pinned.remove(path);
        }
        // One that nobody has ended goes on.
        let late = self.world().late.clone();
        self.world().pinned.extend(late);
        Ok(())
    }

    fn is_pinned(&self, namespaces: &Namespaces) -> bool {
        let pin = namespaces.network.as_ref();
        pin.is_none_or(|pin| self.world().pinned.contains(pin))
    }

    fn watch_holder(&self, _sandbox: &SandboxId, _holder: (i32, u64)) -> bool {
        true
    }

    async fn launch(
        &self,
        _id: &ContainerId,
        _cgroup: &str,
    ) -> Result<Box<dyn Vacancy>, TaskError> {
        self.check("launch")?;
        Ok(Box::new(FakeVacancy(self.clone())))
    }

    async fn reconnect(&self, id: &ContainerId) -> Result<Option<Launched>, TaskError> {
        self.world().sought += 1;
        self.check("reconnect")?;
        let started = self.world().alive.get(id).copied();
        Ok(started.map(|started| self.launched(id, i64::from(started))))
    }

    fn signal_init(&self, _init: (i32, u64), signal: i32) -> Result<(), TaskError> {
        self.world().signals.push(signal);
        Ok(())
    }

    async fn init_ended(&self, _init: (i32, u64)) -> Result<(), TaskError> {
        while !self.world().is_killed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    fn forget(&self, _id: &ContainerId) -> Result<(), TaskError> {
        self.check("forget")
    }

    async fn exec(&self, order: ExecOrder) -> Result<Exec, TaskError> {
        self.check("exec")?;
        let (socket, theirs) = PacketSocket::pair().unwrap();
        let (ours, streams) = pipes(order.stdin, 2);
        self.world().execs.push(FakeExec {
            order,
            streams,
            socket: theirs,
        });
        Ok(Exec::over(socket, 4_000_001, ours))
    }

    async fn dialer(&self, network: Option<&Path>) -> Result<Dialer, TaskError> {
        self.check("dialer")?;
        self.world().dialled = Some(network.map(Path::to_owned));
        let (socket, theirs) = PacketSocket::pair().unwrap();
        std::thread::spawn(move || corten_shim::dial::run(&theirs));
        Ok(Dialer::over(socket))
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
    /// How often it had been cut off when this connection was made.
    cuts: usize,
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
            self.tasks.tell(
                &self.id,
                TaskEventKind::Exited {
                    exit,
                    started_at: 0,
                    seq: 1,
                },
            );
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
        self.tasks.check("health")?;
        Ok(Health {
            dropped_lines: 3,
            log_errno: 28,
            slow_clients: self.tasks.world().slow_clients,
            ..Health::default()
        })
    }

    async fn attach(&self, order: AttachOrder) -> Result<Attachment, TaskError> {
        self.tasks.check("attach")?;
        let outputs = usize::from(order.stdout) + usize::from(order.stderr);
        let (streams, theirs) = pipes(order.stdin, outputs);
        let (cut, told) = oneshot::channel();
        self.tasks.world().attached.push(FakeAttach {
            order,
            streams: theirs,
            cut,
        });
        Ok(Attachment { streams, cut: told })
    }

    async fn resize(&self, width: u16, height: u16) -> Result<(), TaskError> {
        self.tasks.check("resize")?;
        self.tasks.world().sizes.push((width, height));
        Ok(())
    }

    async fn shutdown(&self) -> Result<(), TaskError> {
        self.tasks.check("shutdown")?;
        self.tasks.world().alive.remove(&self.id);
        Ok(())
    }

    fn is_lost(&self) -> bool {
        let world = self.tasks.world();
        !world.alive.contains_key(&self.id) || world.cuts(&self.id) > self.cuts
    }

    async fn acknowledge(&self, _seq: u64) {}
}
