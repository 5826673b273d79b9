//! News of containers: an end becomes the state that everyone sees; a lost shim becomes an end.

use super::objects::ContainerCell;
use super::{Engine, blocking, now};
use crate::error::{Context, Kind, Result};
use crate::model::container::{Container, ContainerState, Exit};
use crate::task::{CreateOrder, TaskEvent, TaskEventKind, exit_of, kill_init};
use corten_shim::api::{ExitReason, ExitRecord};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The code of an end that nobody saw.
const UNSEEN: i32 = 255;

/// Takes in news until the adapter that sends them has gone.
pub async fn follow(engine: Arc<Engine>, mut events: mpsc::UnboundedReceiver<TaskEvent>) {
    while let Some(event) = events.recv().await {
        let Ok(Some(cell)) = engine.objects.container(event.container.as_str()) else {
            continue;
        };
        match event.kind {
            TaskEventKind::Exited { exit, seq } => {
                exited(&cell, exit);
                acknowledge(&cell, seq);
            }
            TaskEventKind::OutOfMemory { seq } => {
                tracing::warn!(container.id = %event.container, "a process of the container was killed for memory");
                acknowledge(&cell, seq);
            }
            TaskEventKind::ShimLost => shim_lost(&engine, cell),
        }
    }
}

fn exited(cell: &ContainerCell, exit: Exit) {
    let (code, reason) = (exit.code, exit.reason.clone());
    let container = cell.change(|container| container.state = ContainerState::Exited(exit));
    tracing::info!(container.id = %container.id, code, reason, "container has exited");
}

/// The answer is not waited for: the next piece of news may be urgent.
fn acknowledge(cell: &ContainerCell, seq: u64) {
    if let Some(task) = cell.task() {
        tokio::spawn(async move { task.acknowledge(seq).await });
    }
}

/// After an end a shim goes by itself. Before one it was killed: then its container is ended too,
/// for nobody would take its output or see its end.
fn shim_lost(engine: &Arc<Engine>, cell: Arc<ContainerCell>) {
    cell.set_task(None);
    let container = cell.record();
    if container.has_exited() || container.state == ContainerState::Creating {
        return;
    }
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        let exit = engine.exit_without_shim(&container).await;
        exited(&cell, exit);
    });
}

impl Engine {
    /// The end of a container that has no shim: as its record says, or else made and written now.
    pub(super) async fn exit_without_shim(&self, container: &Arc<Container>) -> Exit {
        let path = CreateOrder::exit_record(&self.ports.store.container_dir(&container.id));
        let read = path.clone();
        if let Ok(Some(exit)) = blocking(move || recorded(&read)).await {
            return exit;
        }
        let ended = Arc::clone(container);
        let killed = blocking(move || Ok(kill_init(ended.pid, ended.start_time)?)).await;
        if let Err(error) = killed.and(self.end_without_shim(container).await) {
            tracing::error!(container.id = %container.id, error = error.chain(), "a container without a shim could not be ended");
        }
        let record = unseen(container);
        let exit = exit_of(&record);
        if let Err(error) = blocking(move || write(&path, &record)).await {
            tracing::warn!(container.id = %container.id, error = error.chain(), "an exit record could not be written");
        }
        exit
    }
}

fn unseen(container: &Container) -> ExitRecord {
    ExitRecord {
        pid: container.pid,
        code: UNSEEN,
        signal: None,
        reason: ExitReason::Unknown,
        message:
            "the container's shim was killed, so the container was ended; nobody saw its exit code"
                .to_owned(),
        started_at: container.started_at,
        finished_at: now(),
    }
}

/// What the shim wrote before it went; `None` when it did not come to that.
pub(super) fn recorded(path: &Path) -> Result<Option<Exit>> {
    let text = match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.context(Kind::Internal, || format!("read {}", path.display()))?,
    };
    let record: ExitRecord = serde_json::from_slice(&text)
        .context(Kind::Internal, || format!("read {}", path.display()))?;
    Ok(Some(exit_of(&record)))
}

fn write(path: &Path, record: &ExitRecord) -> Result<()> {
    let failed = || format!("write {}", path.display());
    let text = serde_json::to_vec(record).context(Kind::Internal, failed)?;
    let temporary = path.with_extension("json.new");
    std::fs::write(&temporary, text).context(Kind::Internal, failed)?;
    std::fs::rename(&temporary, path).context(Kind::Internal, failed)
}
