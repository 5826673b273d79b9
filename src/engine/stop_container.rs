//! StopContainer: a signal, a wait for the end outside of any lock, and SIGKILL after the grace.

use super::Engine;
use super::objects::ContainerCell;
use crate::error::{Error, Kind, Result};
use crate::model::container::ContainerState;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// SIGKILL.
const KILL: i32 = 9;
/// After SIGKILL a process ends at once, unless the kernel itself holds it.
const KILL_TAKES: Duration = Duration::from_secs(30);

impl Engine {
    /// Asks a container to end, and kills it when the grace is over. Of one that does not exist
    /// or has ended, nothing is to do. Its signal is sent once, however often this is called; each
    /// call has its own grace.
    ///
    /// # Errors
    /// `DeadlineExceeded` where it does not even end by SIGKILL.
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
                self.signal(cell, container.stop_signal).await?;
            }
            crate::failpoint!("stop_container/asked");
            if tokio::time::timeout(grace, cell.ended()).await.is_ok() {
                crate::failpoint!("stop_container/ended");
                return Ok(());
            }
        }
        self.signal(cell, KILL).await?;
        crate::failpoint!("stop_container/killed");
        tokio::time::timeout(KILL_TAKES, cell.ended())
            .await
            .map_err(|_| stuck(container.pid))
    }

    /// Without a shim nobody would tell of the end, so the container is ended here.
    async fn signal(self: &Arc<Self>, cell: &Arc<ContainerCell>, signal: i32) -> Result<()> {
        match cell.task() {
            Some(task) => Ok(task.signal(signal).await?),
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
        Kind::DeadlineExceeded,
        format!(
            "process {pid} does not end {KILL_TAKES:?} after SIGKILL: the kernel holds it in {place}; \
             look for a dead network mount or a failing disk"
        ),
    )
}
