//! Attach: the streams of a container's own process, from now on.
//!
//! Its shim copies what the container says to all who are attached, and cuts off who does not read:
//! the container is held up by nobody here.
//!
//! | the client's stdin ends, and the container | then |
//! |---|---|
//! | has a stdin for one client (`stdin_once`), no terminal | that is closed, and the client hears on |
//! | has a stdin for many, or a terminal | that stays open, and the client is detached |
//! | has none | nothing; who wanted no output either is detached |
//!
//! So does containerd. Who is detached has what the container had said by then.

use super::process::{Control, Ended, Joined, Process};
use super::streams::{Input, Output, Streams, second};
use super::{AttachSession, Engine, Wants};
use crate::engine::objects::ContainerCell;
use crate::error::{Error, Result};
use crate::model::container::ContainerConfig;
use crate::task::{AttachOrder, Attachment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How often an output is looked at, of a shim that can tell nothing of it.
const LOOK: Duration = Duration::from_secs(1);

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
        let ended = || Error::precondition(format!("container {container} has just ended"));
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
        let sight = sight(&streams, asked)?;
        let (last, typed) = watch::channel(false);
        let typed = leaves_after_stdin(has, wants).then_some(typed);
        let output = |fd| Output::of_container(fd, typed_last(typed.clone()));
        let mut streams = Streams::of(streams, asked, output)?;
        if wants.stdin && !has.stdin {
            streams.stdin = Some(Input::nobody());
        }
        let (told, end) = watch::channel(None);
        let watch = tokio::spawn(async move {
            let mut cut = Some(cut);
            let end = tokio::select! {
                () = cut_off(&mut cut, sight, &cell) => Ended::TooSlow,
                () = cell.ended() => Ended::Gone,
                () = typed_last(typed) => Ended::Detached,
            };
            told.send_replace(Some(Ok(end)));
            // What the container has said last is kept for who reads it, and for nobody for ever.
            if let (Ended::Gone | Ended::Detached, Some(cut)) = (end, cut)
                && cut.await.is_ok()
            {
                told.send_replace(Some(Ok(Ended::TooSlow)));
            }
        });
        let control = Control::Attach(task, last);
        Ok(Joined {
            stdin: streams.stdin,
            stdout: streams.stdout.filter(|_| wants.stdout),
            stderr: streams.stderr,
            process: Process::new(control, end, vec![watch.abort_handle()]),
        })
    }
}

/// Whether a client goes when it has sent its last: there is nothing that it could hear, or else the
/// stdin that it has typed to goes on.
fn leaves_after_stdin(has: &ContainerConfig, wants: Wants) -> bool {
    let hears = wants.stdout || wants.stderr;
    let goes_on = has.stdin && (has.tty || !has.stdin_once);
    wants.stdin && (goes_on || !hears)
}

/// Waits for the client's last word, where that lets it go.
async fn typed_last(last: Option<watch::Receiver<bool>>) {
    if let Some(mut last) = last
        && last.wait_for(|last| *last).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// What shows whether a container's output has ended.
fn sight(streams: &[OwnedFd], asked: Wants) -> Result<Option<OwnedFd>> {
    let output = streams.last().filter(|_| asked.stdout || asked.stderr);
    output.map(second).transpose()
}

/// Waits until the client is cut off. Its shim tells that where it was asked: where that connection was
/// made anew since, it is seen from what the client has lost, and from the shim's own count.
async fn cut_off(
    cut: &mut Option<oneshot::Receiver<()>>,
    sight: Option<OwnedFd>,
    cell: &ContainerCell,
) {
    if let Some(told) = cut
        && told.await.is_ok()
    {
        return;
    }
    *cut = None;
    let mut seen = false;
    loop {
        tokio::time::sleep(LOOK).await;
        // A container that ends tells of it before the second look.
        let ended = sight.as_ref().is_some_and(has_ended);
        if std::mem::replace(&mut seen, ended)
            && ended
            && let Some(task) = cell.task()
            && matches!(task.health().await, Ok(health) if health.slow_clients > 0)
        {
            return;
        }
    }
}

fn has_ended(output: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(output, PollFlags::empty())];
    let now = Timespec::default();
    let _ = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)));
    fds[0].revents().contains(PollFlags::HUP)
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
