//! A process with its streams: what a session consists of once it has begun.
//!
//! Invariant: the end is told once it is known and to all who ask, and nobody who asks keeps the
//! process.

use super::streams::{Input, Output};
use crate::error::{Error, Result};
use crate::task::{Exec, Task};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A session that has begun. Dropped as a whole it ends: of an exec the process and all that it
/// started (its stdin is closed and its terminal hung up first), of an attach nothing but itself.
pub struct Joined {
    /// What it hears; `None`: not asked for.
    pub stdin: Option<Input>,
    /// What it says, or its terminal shows; `None`: not asked for.
    pub stdout: Option<Output>,
    /// What it complains; `None`: not asked for, or it has a terminal.
    pub stderr: Option<Output>,
    /// It.
    pub process: Process,
}

/// How a session has ended. What was said before is still to be read from the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// An exec's process has ended.
    Exited {
        /// The exit code; 128 + the signal's number where a signal ended it.
        code: i32,
    },
    /// The container that was attached to has ended.
    Gone,
    /// The client of an attach has sent its last, and the container's stdin stays open for others: the
    /// client was let go.
    Detached,
    /// The container said more than this client of an attach has read, and was not held up for it:
    /// the client was cut off.
    TooSlow,
}

/// The process of a session. When the last copy goes, an exec's is ended.
#[derive(Clone)]
pub struct Process(Arc<Handle>);

struct Handle {
    control: Control,
    end: watch::Receiver<Option<Result<Ended>>>,
    /// What runs as long as somebody holds the process.
    tasks: Vec<AbortHandle>,
}

pub(super) enum Control {
    /// Closed, its socket ends the process.
    Exec(Arc<Exec>),
    /// The container's shim, and who is told when the client has sent its last.
    Attach(Arc<dyn Task>, watch::Sender<bool>),
}

impl Drop for Handle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Process {
    /// Under this control, with an end that one of these tasks tells.
    pub(super) fn new(
        control: Control,
        end: watch::Receiver<Option<Result<Ended>>>,
        tasks: Vec<AbortHandle>,
    ) -> Self {
        Self(Arc::new(Handle {
            control,
            end,
            tasks,
        }))
    }

    /// Sets the size of the terminal, in columns and rows.
    ///
    /// # Errors
    /// Where there is none, or the process has just ended.
    pub async fn resize(&self, width: u16, height: u16) -> Result<()> {
        match &self.0.control {
            Control::Exec(exec) => Ok(exec.resize(width, height).await?),
            Control::Attach(task, _) => Ok(task.resize(width, height).await?),
        }
    }

    /// The client has sent its last.
    pub fn stdin_ended(&self) {
        if let Control::Attach(_, last) = &self.0.control {
            last.send_replace(true);
        }
    }

    /// Waits for the end. One that is [`Ended::Gone`] or [`Ended::Detached`] can yet become
    /// [`Ended::TooSlow`], for who does not read what was said last.
    ///
    /// # Errors
    /// Where nobody saw it.
    pub async fn wait(&self) -> Result<Ended> {
        let mut end = self.0.end.clone();
        let told = end.wait_for(Option::is_some).await;
        let told = told.ok().and_then(|end| end.clone());
        told.unwrap_or_else(|| Err(Error::internal("the session was given up")))
    }

    /// Waits for [`Ended::TooSlow`], also after another end.
    pub async fn cut_off(&self) {
        let mut end = self.0.end.clone();
        let cut = end.wait_for(|end| matches!(end, Some(Ok(Ended::TooSlow))));
        if cut.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
