//! Attach: the streams of a container's own process, from now on.
//!
//! Its shim copies what the container says to all who are attached, and cuts off who does not read:
//! the container is held up by nobody here.

use super::process::{Control, Ended, Joined, Process};
use super::streams::{Input, Output, Streams};
use super::{AttachSession, Engine, Wants};
use crate::error::{Error, Result};
use crate::task::{AttachOrder, Attachment};
use tokio::sync::watch;

impl Engine {
    /// Joins the streams of a session's container. Who wants to write to a container without stdin
    /// is let in, and not heard. Whether there is a terminal is the container's to say.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where the container does not run any more; else why its shim
    /// cannot let the client join.
    pub async fn run_attach(&self, session: AttachSession) -> Result<Joined> {
        let AttachSession { container, wants } = session;
        let record = self.running(&container)?;
        let ended = || Error::precondition(format!("container {container} does not run"));
        let cell = self.objects.container(record.id.as_str())?;
        let cell = cell.ok_or_else(ended)?;
        let task = cell.task().ok_or_else(ended)?;
        let has = &record.config;
        let asked = Wants {
            stdin: wants.stdin && has.stdin,
            stderr: wants.stderr && !has.tty,
            tty: has.tty,
            ..wants
        };
        let attached = task.attach(order(asked)).await;
        let Attachment { streams, cut } = attached
            .map_err(|e| Error::from(e).during(format!("attach to container {container}")))?;
        let mut streams = Streams::of(streams, asked, Output::of_container)?;
        if wants.stdin && !has.stdin {
            streams.stdin = Some(Input::nobody());
        }
        let (told, end) = watch::channel(None);
        let watch = tokio::spawn(async move {
            let end = tokio::select! {
                Ok(()) = cut => Ended::TooSlow,
                () = cell.ended() => Ended::Gone,
            };
            told.send_replace(Some(Ok(end)));
        });
        Ok(Joined {
            stdin: streams.stdin,
            stdout: streams.stdout.filter(|_| wants.stdout),
            stderr: streams.stderr,
            process: Process::new(Control::Attach(task), end, vec![watch.abort_handle()]),
        })
    }
}

fn order(asked: Wants) -> AttachOrder {
    let Wants {
        stdin,
        stdout,
        stderr,
        ..
    } = asked;
    AttachOrder {
        stdin,
        stdout,
        stderr,
    }
}
