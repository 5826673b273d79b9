//! News of containers: an end becomes the state that everyone sees; a lost shim becomes an end.

use super::objects::ContainerCell;
use super::stop_container::KILL;
use super::{Engine, blocking, now, write_whole};
use crate::error::Error;
use crate::id::SandboxId;
use crate::model::container::{Container, ContainerState, Exit};
use crate::model::sandbox::{Release, SandboxState};
use crate::task::{CreateOrder, TaskEvent, TaskEventKind, exit_of};
use corten_shim::api::{ExitReason, ExitRecord};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The code of an end that nobody saw.
const UNSEEN: i32 = 255;
const WITHOUT_SHIM: &str =
    "the container's shim was killed, so the container was ended; nobody saw its exit code";

/// Takes in news until the adapter that sends them has gone.
pub async fn follow(engine: Arc<Engine>, mut events: mpsc::UnboundedReceiver<TaskEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            TaskEvent::Container { container, kind } => {
                if let Ok(Some(cell)) = engine.objects.container(container.as_str()) {
                    take_in(&engine, cell, kind);
                }
            }
            TaskEvent::HolderEnded(sandbox) => holder_ended(&engine, &sandbox),
        }
    }
}

fn take_in(engine: &Arc<Engine>, cell: Arc<ContainerCell>, kind: TaskEventKind) {
    match kind {
        TaskEventKind::Exited {
            exit,
            started_at,
            seq,
        } => {
            engine.exited(&cell, exit, started_at);
            acknowledge(&cell, seq);
        }
        TaskEventKind::OutOfMemory { seq } => {
            tracing::warn!(container.id = %cell.record().id, "a process of the container was killed for memory");
            acknowledge(&cell, seq);
        }
        TaskEventKind::ShimLost => shim_lost(engine, cell),
    }
}

/// Without PID 1 no process can be made in the pod any more, and an empty scope ends: the kubelet is to
/// make it anew.
fn holder_ended(engine: &Arc<Engine>, id: &SandboxId) {
    let Ok(Some(cell)) = engine.objects.sandbox(id.as_str()) else {
        return;
    };
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        if cell.record().state != SandboxState::Ready {
            return;
        }
        tracing::warn!(sandbox.id = %cell.record().id, "the process that holds the pod was killed; the pod is not ready any more");
        engine.close_sandbox(&cell, Release::Held).await;
    });
}

/// The answer is not waited for: the next piece of news may be urgent.
fn acknowledge(cell: &ContainerCell, seq: u64) {
    if let Some(task) = cell.task() {
        tokio::spawn(async move { task.acknowledge(seq).await });
    }
}

/// After an end a shim goes by itself. Before one it was killed, or only the connection has ended, as
/// where a packet could not be taken in: so it is sought. Where there is none its container is ended
/// too, for nobody would take its output or see its end.
pub(super) fn shim_lost(engine: &Arc<Engine>, cell: Arc<ContainerCell>) {
    // One that is still being made is looked at again when it has been.
    if cell.record().state == ContainerState::Creating {
        return;
    }
    cell.drop_lost_task();
    let engine = Arc::clone(engine);
    tokio::spawn(async move { engine.seek_shim(&cell, Duration::ZERO).await });
}

impl Engine {
    /// The news of an end may come before the answer to the start, so it says when that was.
    fn exited(&self, cell: &ContainerCell, exit: Exit, started_at: i64) {
        let (code, reason) = (exit.code, exit.reason.clone());
        let container = self.objects.change_container(cell, |container| {
            container.state = ContainerState::Exited(exit);
            container.started_at = container.started_at.max(started_at);
        });
        tracing::info!(container.id = %container.id, code, reason, "container has exited");
    }

    /// Ends a container whose shim has gone; one that has ended stays as it is.
    pub(super) async fn end_lost(&self, cell: &Arc<ContainerCell>) {
        let _alone = cell.last_rites.lock().await;
        let container = cell.record();
        if !container.has_exited() {
            let exit = self.exit_without_shim(&container).await;
            self.exited(cell, exit, container.started_at);
        }
    }

    /// The end of a container that has no shim: as its record says, or else made and written now.
    async fn exit_without_shim(&self, container: &Arc<Container>) -> Exit {
        let init = (container.pid, container.start_time);
        let killed = self
            .ports
            .tasks
            .signal_init(init, KILL)
            .map_err(Error::from);
        if let Err(error) = killed.and(self.end_without_shim(container).await) {
            tracing::error!(container.id = %container.id, error = error.chain(), "a container without a shim could not be ended");
        }
        self.exit_unseen(container, WITHOUT_SHIM).await
    }

    /// The end of a container that nobody saw, as its record says. Where there is none it is written
    /// with this message, so that the end is the same for ever.
    pub(super) async fn exit_unseen(&self, container: &Container, message: &str) -> Exit {
        let path = CreateOrder::exit_record(&self.ports.store.container_dir(&container.id));
        let read = path.clone();
        if let Ok(Some(exit)) = blocking(move || Ok(recorded(&read))).await {
            return exit;
        }
        let record = unseen(container, message);
        let exit = exit_of(&record);
        if let Err(error) = blocking(move || write_whole(&path, &record)).await {
            tracing::warn!(container.id = %container.id, error = error.chain(), "an exit record could not be written");
        }
        exit
    }
}

fn unseen(container: &Container, message: &str) -> ExitRecord {
    ExitRecord {
        pid: container.pid,
        code: UNSEEN,
        signal: None,
        reason: ExitReason::Unknown,
        message: message.to_owned(),
        started_at: container.started_at,
        finished_at: now(),
    }
}

/// What the shim wrote before it went; `None` when it did not come to that. A record that cannot
/// be read, as one that a power cut has emptied, says nothing either.
pub(super) fn recorded(path: &Path) -> Option<Exit> {
    let text = std::fs::read(path).ok()?;
    match serde_json::from_slice::<ExitRecord>(&text) {
        Ok(record) => Some(exit_of(&record)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "an exit record is unreadable");
            None
        }
    }
}
