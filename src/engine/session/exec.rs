//! Exec: a new process in the container, whose streams are the client's.

use super::process::{Control, Ended, Joined, Process};
use super::streams::{Output, Streams};
use super::{Engine, ExecSession, Wants};
use crate::engine::exec_sync::program;
use crate::error::{Error, Result};
use crate::task::Exec;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::AbortHandle;

impl Engine {
    /// Starts the process of a session.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where the container does not run any more; else why the
    /// process cannot be started.
    pub async fn run_exec(&self, session: ExecSession) -> Result<Joined> {
        let ExecSession {
            container: id,
            command,
            wants,
        } = session;
        let container = self.running(&id)?;
        let program = program(&command);
        let order = self.exec_order(&container, command, wants).await?;
        let started = self.ports.tasks.exec(order).await;
        let exec = started
            .map_err(|e| Error::from(e).during(format!("execute {program:?} in container {id}")))?;
        join(exec, wants)
    }
}

fn join(mut exec: Exec, wants: Wants) -> Result<Joined> {
    let (told, end) = watch::channel(None);
    let (over, ended) = watch::channel(false);
    let fds = std::mem::take(&mut exec.streams);
    // The shim gives both outputs, be they wanted or not.
    let given = Wants {
        stdout: true,
        stderr: true,
        ..wants
    };
    let streams = Streams::of(fds, given, |fd| Output::of_process(fd, ended.clone()))?;
    let exec = Arc::new(exec);
    let watched = Arc::clone(&exec);
    let watch = tokio::spawn(async move {
        let end = watched.wait().await;
        over.send_replace(true);
        let end = end.map(|end| Ended::Exited { code: end.code });
        told.send_replace(Some(end.map_err(Error::from)));
    });
    let mut tasks = vec![watch.abort_handle()];
    let mut wanted = |stream: Option<Output>, wanted| {
        let (kept, rest) = if wanted {
            (stream, None)
        } else {
            (None, stream)
        };
        tasks.extend(rest.map(discard));
        kept
    };
    Ok(Joined {
        stdin: streams.stdin,
        stdout: wanted(streams.stdout, wants.stdout),
        stderr: wanted(streams.stderr, wants.stderr),
        process: Process::new(Control::Exec(exec), end, tasks),
    })
}

/// What nobody wants is read all the same: a full pipe would hold the process up, a closed one would
/// end it.
fn discard(mut output: Output) -> AbortHandle {
    let task = tokio::spawn(async move {
        // An error is its end as well.
        let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    });
    task.abort_handle()
}
