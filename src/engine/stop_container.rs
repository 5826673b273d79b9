//! StopContainer: a signal, a wait for the end outside of any lock, and SIGKILL after the grace.

use super::Engine;
use super::objects::ContainerCell;
use crate::error::{Error, Kind, Result};
use crate::model::container::ContainerState;
use crate::task::CreateOrder;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// SIGKILL.
pub(super) const KILL: i32 = 9;
/// After SIGKILL a process ends at once, unless the kernel itself holds it.
const KILL_TAKES: Duration = Duration::from_secs(30);
/// A shim that does not answer may still write down how its container ended.
const RECORD_TAKES: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

impl Engine {
    /// Asks a container to end, and kills it when the grace is over. Of one that does not exist
    /// or has ended, nothing is to do. Its signal is sent once, however often this is called; each
    /// call has its own grace.
    ///
    /// # Errors
    /// Where it does not even end by SIGKILL.
    pub async fn stop_container(self: &Arc<Self>, id: &str, grace: Duration) -> Result<()> {
        match self.objects.container(id)? {
            Some(cell) => self.stop(&cell, grace).await,
            None => Ok(()),
        }
    }

    pub(super) async fn stop(
        self: &Arc<Self>,
        cell: &Arc<ContainerCell>,
        grace: Duration,
    ) -> Result<()> {
        let container = cell.record();
        if container.has_exited() {
            return Ok(());
        }
        // What was never started has nobody to obey a signal.
        if !grace.is_zero() && container.state == ContainerState::Running {
            if !cell.stop_signalled.swap(true, Ordering::SeqCst) {
                self.ask_to_end(cell).await?;
            }
            crate::failpoint!("stop_container/asked");
            if tokio::time::timeout(grace, self.end_of(cell)).await.is_ok() {
                crate::failpoint!("stop_container/ended");
                return Ok(());
            }
        }
        self.kill(cell).await?;
        crate::failpoint!("stop_container/killed");
        tokio::time::timeout(KILL_TAKES, cell.ended())
            .await
            .map_err(|_| stuck(container.pid))
    }

    /// Past a shim that does not answer, where need be: its container has its grace all the same.
    async fn ask_to_end(&self, cell: &ContainerCell) -> Result<()> {
        let container = cell.record();
        match cell.task() {
            Some(task) => Ok(task.signal(container.stop_signal).await?),
            None => {
                let init = (container.pid, container.start_time);
                Ok(self.ports.tasks.signal_init(init, container.stop_signal)?)
            }
        }
    }

    /// Waits for the end, as its shim tells of it, or as init's own end does where none answers.
    async fn end_of(&self, cell: &Arc<ContainerCell>) {
        match cell.task() {
            Some(_) => cell.ended().await,
            None => tokio::select! {
                () = cell.ended() => {}
                () = self.end_after_init(cell) => {}
            },
        }
    }

    async fn end_after_init(&self, cell: &Arc<ContainerCell>) {
        let container = cell.record();
        let init = (container.pid, container.start_time);
        if let Err(error) = self.ports.tasks.init_ended(init).await {
            tracing::warn!(container.id = %container.id, error = crate::error::chain(&error), "a container's end is not seen; it is ended when its grace is over");
            return std::future::pending().await;
        }
        let path = CreateOrder::exit_record(&self.ports.store.container_dir(&container.id));
        let written = async {
            while !path.exists() {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Written or not: without a record the end is one that nobody saw.
        let _ = tokio::time::timeout(RECORD_TAKES, written).await;
        self.end_lost(cell).await;
    }

    /// Without a shim nobody would tell of the end, so the container is ended here.
    async fn kill(&self, cell: &Arc<ContainerCell>) -> Result<()> {
        match cell.task() {
            Some(task) => Ok(task.signal(KILL).await?),
            None => {
                self.end_lost(cell).await;
                Ok(())
            }
        }
    }
}

fn stuck(pid: i32) -> Error {
    let waits = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let place = if waits.is_empty() {
        "an unknown place"
    } else {
        waits.as_str()
    };
    Error::new(
        Kind::Internal,
        format!(
            "stop the container: process {pid} does not end {KILL_TAKES:?} after SIGKILL: the kernel holds it in {place}; \
             look for a dead network mount or a failing disk"
        ),
    )
}
