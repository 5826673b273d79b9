//! The real adapter: one `corten-shim run` a container.

use super::client::Client;
use super::dial::{self, Dialer};
use super::error::within;
use super::exec::{self, Exec};
use super::process::{Kill, Spawned};
use super::socket::PacketSocket;
use super::spare::{Starter, Verb};
use super::{
    AttachOrder, Attachment, CreateOrder, ExecOrder, Launched, Program, Task, TaskError, TaskEvent,
    Tasks, Vacancy, exit_of, process, sandbox, strays,
};
use crate::id::{ContainerId, SandboxId};
use crate::metrics::ContainerMetrics;
use crate::model::container::ResolvedUser;
use crate::model::sandbox::{Namespaces, Sandbox};
use async_trait::async_trait;
use corten_shim::api::{self, CreateRequest, Reply, Request};
use rustix::fd::OwnedFd;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A shim that was left by an earlier daemon answers from memory.
const ANSWER: Duration = Duration::from_secs(10);
/// A program's start, on a node that is busy.
const GREETING: Duration = Duration::from_secs(60);
/// A create looks at paths that a user chose, and the kubelet waits two minutes.
const CREATE: Duration = Duration::from_secs(60);
/// The program may lie on a volume of the user's, from which the kernel reads it.
const START: Duration = Duration::from_secs(60);
/// A log's disk may be slow.
const LOG: Duration = Duration::from_secs(30);
/// The kernel may have to give memory up.
const LIMITS: Duration = Duration::from_secs(30);
/// A helper of a killed daemon takes a hundredth of this on a busy node: killed half way it leaves more.
const HELPER: Duration = Duration::from_secs(2);
/// The container is killed first.
const END: Duration = Duration::from_secs(30);

/// Starts and finds shims.
pub struct ShimTasks {
    starter: Arc<Starter>,
    events: mpsc::UnboundedSender<TaskEvent>,
    metrics: ContainerMetrics,
}

impl ShimTasks {
    /// With this `corten-shim`; sockets go below `state`, shims into the cgroup `cgroup`, and news
    /// of containers into `events`, what their making takes into `metrics`.
    ///
    /// # Errors
    /// Where the directory of the sockets cannot be made.
    pub fn new(
        program: Program,
        state: &Path,
        cgroup: &Path,
        events: mpsc::UnboundedSender<TaskEvent>,
        metrics: ContainerMetrics,
    ) -> std::io::Result<Self> {
        let sockets = state.join("shims");
        std::fs::create_dir_all(&sockets)?;
        let starter = Starter::new(program, sockets, cgroup);
        Ok(Self {
            starter,
            events,
            metrics,
        })
    }

    /// Says hello to a shim that was started, and for whom it is.
    async fn occupy(
        &self,
        id: &ContainerId,
        cgroup: &str,
        shim: Spawned,
    ) -> Result<Vacant, TaskError> {
        let Spawned { socket, kill } = shim;
        let verb = "prepare the container";
        let request = Request::Prepare {
            id: id.as_str().to_owned(),
            cgroup: cgroup.to_owned(),
        };
        let end = (socket, id.clone());
        let opened = Client::open_with(end, self.events.clone(), verb, request);
        let prepared = match within(GREETING, verb, opened).await {
            Ok((client, Reply::Done)) => Ok(client),
            Ok(_) => Err(TaskError::Protocol { verb }),
            Err(error) => Err(error),
        };
        match prepared {
            Ok(client) => Ok(Vacant {
                client,
                kill,
                metrics: self.metrics.clone(),
                refill: Refill(Arc::clone(&self.starter)),
            }),
            Err(error) => {
                kill.kill();
                Err(error)
            }
        }
    }

    /// The helpers of this verb that a killed daemon has left.
    async fn strays(&self, verb: &'static str) -> Vec<OwnedFd> {
        let program = self.starter.program().to_owned();
        let found = tokio::task::spawn_blocking(move || strays::find(&program, verb)).await;
        let found = found.unwrap_or_default();
        if !found.is_empty() {
            let count = found.len();
            tracing::warn!(
                verb,
                count,
                "helpers of a daemon that was killed are still at work"
            );
        }
        found
    }
}

#[async_trait]
impl Tasks for ShimTasks {
    fn ready(&self) -> Result<(), String> {
        let program = self.starter.program();
        let (file, program) = (std::fs::metadata(program), program.display());
        match file {
            Ok(file) if file.is_file() && file.mode() & 0o111 != 0 => Ok(()),
            Ok(_) => Err(format!(
                "{program} cannot be executed: install Corten again"
            )),
            Err(e) => Err(format!("{program}: {e}: install Corten again")),
        }
    }

    async fn pin(&self, pod: &Sandbox) -> Result<Option<(i32, u64)>, TaskError> {
        // Its first container is to find one.
        self.starter.fill(Verb::Run);
        sandbox::pin(&self.starter, pod).await
    }

    async fn end_strays(&self) {
        // Nobody waits for those: their clients have gone.
        for verb in [exec::VERB, dial::VERB] {
            let strays = self.strays(verb).await;
            tokio::spawn(strays::end(strays, exec::LAST_RITES));
        }
        strays::end(self.strays(sandbox::VERB).await, HELPER).await;
    }

    async fn unpin(&self, namespaces: &Namespaces) -> Result<(), TaskError> {
        sandbox::unpin(&self.starter, namespaces).await
    }

    fn is_pinned(&self, namespaces: &Namespaces) -> bool {
        namespaces.network.as_ref().is_none_or(|pin| pin.exists())
    }

    fn watch_holder(&self, sandbox: &SandboxId, (pid, started): (i32, u64)) -> bool {
        let Ok(Some(holder)) = process::open(pid, started) else {
            return false;
        };
        let (events, sandbox) = (self.events.clone(), sandbox.clone());
        tokio::spawn(async move {
            match process::ended(holder).await {
                // The receiver ends with the daemon.
                Ok(()) => drop(events.send(TaskEvent::HolderEnded(sandbox))),
                Err(error) => tracing::warn!(%error, "the holder of a pod is not watched"),
            }
        });
        true
    }

    async fn launch(&self, id: &ContainerId, cgroup: &str) -> Result<Box<dyn Vacancy>, TaskError> {
        if let Some(spare) = self.starter.spare(Verb::Run)
            && let Ok(vacant) = self.occupy(id, cgroup, spare).await
        {
            return Ok(Box::new(vacant));
        }
        let shim = self.starter.start(id)?;
        let vacant = self.occupy(id, cgroup, shim).await?;
        Ok(Box::new(vacant))
    }

    async fn reconnect(&self, id: &ContainerId) -> Result<Option<Launched>, TaskError> {
        let verb = "find the shim again";
        let socket = match PacketSocket::connect(&self.starter.socket(id)) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            other => other.map_err(|source| TaskError::Socket { verb, source })?,
        };
        let found = async {
            let client = Client::open(socket, id.clone(), self.events.clone()).await?;
            let answer = client.call(verb, Request::Status).await?;
            launched(client, verb, answer, self.metrics.clone()).map(Some)
        };
        within(ANSWER, verb, found).await
    }

    fn signal_init(&self, init: (i32, u64), signal: i32) -> Result<(), TaskError> {
        process::signal_by_pid(init, signal)
    }

    async fn init_ended(&self, (pid, started): (i32, u64)) -> Result<(), TaskError> {
        let verb = "watch the container's init";
        let failed = |source| TaskError::Socket { verb, source };
        match process::open(pid, started).map_err(failed)? {
            Some(init) => process::ended(init).await.map_err(failed),
            None => Ok(()),
        }
    }

    fn forget(&self, id: &ContainerId) -> Result<(), TaskError> {
        let verb = "remove the shim's socket";
        match std::fs::remove_file(self.starter.socket(id)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| TaskError::Socket { verb, source }),
        }
    }

    async fn exec(&self, order: ExecOrder) -> Result<Exec, TaskError> {
        exec::start(&self.starter, order).await
    }

    async fn dialer(&self, network: Option<&Path>) -> Result<Dialer, TaskError> {
        within(
            ANSWER,
            "start a dialer",
            dial::start(&self.starter, network),
        )
        .await
    }
}

/// A shim that was started and greeted: it ends where its socket is closed.
struct Vacant {
    client: Client,
    kill: Kill,
    metrics: ContainerMetrics,
    refill: Refill,
}

/// Has the next spare started when this one has done its part, or was of no use.
struct Refill(Arc<Starter>);

impl Drop for Refill {
    fn drop(&mut self) {
        self.0.fill(Verb::Run);
    }
}

#[async_trait]
impl Vacancy for Vacant {
    async fn create(self: Box<Self>, order: CreateOrder) -> Result<Launched, TaskError> {
        let verb = "create the container";
        let Self {
            client,
            kill,
            metrics,
            refill,
        } = *self;
        let made = async {
            let request = create_request(order, refill.0.bare());
            let answer = client.call(verb, request).await;
            match answer {
                Ok(answer) => launched(client, verb, answer, metrics),
                Err(error) => {
                    // It has nothing to keep, so it may end; that it did not create is what counts.
                    let _ = client.call("end the shim", Request::Shutdown).await;
                    Err(error)
                }
            }
        };
        let made = within(CREATE, verb, made).await;
        if matches!(made, Err(TaskError::Slow { .. })) {
            kill.kill();
        }
        made
    }
}

fn create_request(order: CreateOrder, bare: Option<PathBuf>) -> Request {
    Request::Create(CreateRequest {
        id: order.id.as_str().to_owned(),
        exit_record: CreateOrder::exit_record(&order.directory),
        bundle: order.bundle,
        log_path: order.log_path,
        stdin: order.stdin,
        stdin_once: order.stdin_once,
        seccomp_filter: order.seccomp_filter,
        bare,
    })
}

fn launched(
    client: Client,
    verb: &'static str,
    (reply, fds): (Reply, Vec<OwnedFd>),
    metrics: ContainerMetrics,
) -> Result<Launched, TaskError> {
    let status = status(reply, verb, &metrics)?;
    let task = ShimTask {
        client,
        pidfd: fds.into_iter().next(),
        metrics,
    };
    let user = status.user.unwrap_or_default();
    Ok(Launched {
        task: Arc::new(task),
        pid: status.pid,
        start_time: status.start_time,
        started_at: status.started_at,
        user: ResolvedUser {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
        },
        exit: status.exit.as_ref().map(exit_of),
    })
}

/// The status in an answer; what else is told of the container's making is counted.
fn status(
    reply: Reply,
    verb: &'static str,
    metrics: &ContainerMetrics,
) -> Result<api::Status, TaskError> {
    match reply {
        Reply::Status(status) => Ok(status),
        Reply::Timed { status, laps } => {
            for lap in laps {
                metrics.took(lap.part.name(), Duration::from_micros(lap.micros.into()));
            }
            Ok(status)
        }
        _ => Err(TaskError::Protocol { verb }),
    }
}

/// One container's shim.
struct ShimTask {
    client: Client,
    /// The init's; `None` when it had ended before we came.
    pidfd: Option<OwnedFd>,
    metrics: ContainerMetrics,
}

impl ShimTask {
    async fn call(
        &self,
        verb: &'static str,
        request: Request,
        limit: Duration,
    ) -> Result<Reply, TaskError> {
        let answer = within(limit, verb, self.client.call(verb, request)).await;
        answer.map(|(reply, _)| reply)
    }

    async fn do_call(
        &self,
        verb: &'static str,
        request: Request,
        limit: Duration,
    ) -> Result<(), TaskError> {
        self.call(verb, request, limit).await.map(|_| ())
    }
}

#[async_trait]
impl Task for ShimTask {
    async fn start(&self) -> Result<i64, TaskError> {
        let verb = "start the container";
        let answer = self.call(verb, Request::Start, START).await?;
        status(answer, verb, &self.metrics).map(|status| status.started_at)
    }

    async fn signal(&self, signal: i32) -> Result<(), TaskError> {
        match (&self.pidfd, process::named(signal)) {
            (None, _) => Ok(()),
            (Some(pidfd), Some(named)) => process::signal(pidfd, named),
            (Some(_), None) => {
                let verb = "send a signal to the container";
                self.do_call(verb, Request::Signal { signal }, ANSWER).await
            }
        }
    }

    async fn reopen_log(&self) -> Result<(), TaskError> {
        self.do_call("reopen the log", Request::ReopenLog, LOG)
            .await
    }

    async fn update(&self, resources: String) -> Result<(), TaskError> {
        self.do_call("set limits", Request::Update { resources }, LIMITS)
            .await
    }

    async fn health(&self) -> Result<api::Health, TaskError> {
        let verb = "ask the shim how it fares";
        match self.call(verb, Request::Health, ANSWER).await? {
            Reply::Health(health) => Ok(health),
            _ => Err(TaskError::Protocol { verb }),
        }
    }

    async fn attach(&self, order: AttachOrder) -> Result<Attachment, TaskError> {
        let verb = "attach to the container";
        let AttachOrder {
            stdin,
            stdout,
            stderr,
        } = order;
        let request = Request::Attach {
            stdin,
            stdout,
            stderr,
        };
        let (again, cut) = oneshot::channel();
        let answer = self.client.call_twice(verb, request, again);
        match within(ANSWER, verb, answer).await? {
            (Reply::Attached, streams) => Ok(Attachment { streams, cut }),
            _ => Err(TaskError::Protocol { verb }),
        }
    }

    async fn resize(&self, width: u16, height: u16) -> Result<(), TaskError> {
        let size = Request::Resize { width, height };
        self.do_call("set the terminal's size", size, ANSWER).await
    }

    async fn shutdown(&self) -> Result<(), TaskError> {
        match self.do_call("end the shim", Request::Shutdown, END).await {
            // Ended by itself: what was wanted.
            Err(TaskError::Gone { .. }) => Ok(()),
            other => other,
        }
    }

    fn is_lost(&self) -> bool {
        self.client.is_lost()
    }

    async fn acknowledge(&self, seq: u64) {
        let acknowledged = self
            .do_call("acknowledge", Request::Acknowledge { up_to: seq }, ANSWER)
            .await;
        if let Err(error) = acknowledged {
            tracing::debug!(%error, "an event was not acknowledged; it will be told again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_shim::api::{Answer, Call, Message};
    use corten_shim::packet::{self, Received};

    /// A shim that greets, and then says nothing.
    async fn silent() -> (ShimTask, OwnedFd) {
        let (ours, theirs) = PacketSocket::pair().unwrap();
        let greeter = std::thread::spawn(move || {
            let call: Received<Call> = packet::receive(&theirs).unwrap().unwrap();
            let hello = Reply::Hello { version: 1, pid: 1 };
            let (id, result) = (call.message.id, Ok(hello));
            packet::send(&theirs, &Message::Answer(Answer { id, result }), &[]).unwrap();
            theirs
        });
        let (events, _) = mpsc::unbounded_channel();
        let client = Client::open(ours, ContainerId::random(), events).await;
        let client = client.unwrap();
        let task = ShimTask {
            client,
            pidfd: None,
            metrics: ContainerMetrics::default(),
        };
        (task, greeter.join().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn no_verb_waits_for_ever_for_a_shim_that_is_silent() {
        let (shim, _theirs) = silent().await;
        let told = [
            shim.start().await.map(|_| ()),
            shim.update(String::new()).await,
            shim.reopen_log().await,
            shim.shutdown().await,
            shim.attach(AttachOrder::default()).await.map(|_| ()),
            shim.resize(1, 1).await,
            shim.health().await.map(|_| ()),
        ];
        for error in told.map(Result::unwrap_err) {
            assert!(matches!(error, TaskError::Slow { .. }), "{error}");
        }
    }
}
