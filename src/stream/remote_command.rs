//! Exec and attach: a process's streams and a client's, joined. What the client speaks is known to
//! whoever brings its [`Streams`].
//!
//! ```text
//! client ─ stdin ──▶ process ─ stdout, stderr ──▶ client
//!        └ resize ─▶         └ its end ─ error ─▶
//! ```
//!
//! Invariant: what a client does not take is not read from its process. Nothing is kept but one
//! buffer for each direction, and of what a process says none where the transport keeps the rest.

use super::end::{End, Form};
use super::outlet::Outlet;
use super::resize::Sizes;
use super::source::{Inlet, Joint, Mouth, Steer};
use super::watch::{Traffic, Watch};
use crate::engine::session::Ended;
use crate::error::Result;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

/// One read of what a process says: half of what a pipe holds, and one frame.
pub(super) const OUTPUT: usize = 32 * 1024;
/// What a process complains is little.
pub(super) const COMPLAINT: usize = 8 * 1024;
/// One read of what a client types or sends.
pub(super) const INPUT: usize = 8 * 1024;
/// How long a client that was cut off may take for what it was given before.
const LAST_OUTPUT: Duration = Duration::from_secs(10);
/// How long a client that was cut off may take for the last word.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A client's streams.
pub struct Streams {
    /// What it sends to the process.
    pub stdin: Option<Inlet>,
    /// The sizes of its terminal.
    pub resize: Option<Inlet>,
    /// Where the process's stdout goes.
    pub stdout: Option<Outlet>,
    /// Where the process's stderr goes.
    pub stderr: Option<Outlet>,
    /// Where it hears how the session ended.
    pub error: Option<Outlet>,
    /// How it is told.
    pub form: Form,
}

/// Joins the streams with those of a process, until one of them ends or the session is cut.
pub async fn run<P: Steer>(
    start: impl Future<Output = Result<Joint<P>>>,
    mut streams: Streams,
    watch: &mut Watch,
) -> End {
    let traffic = std::sync::Arc::clone(&watch.traffic);
    let end = tokio::select! {
        end = join(start, &mut streams, &traffic) => end,
        end = watch.cut() => end,
    };
    part(&mut streams, &end, watch).await;
    end
}

/// Tells a client how the session ended, as long as it is there.
pub async fn part(streams: &mut Streams, end: &End, watch: &mut Watch) {
    // Who was cut off and does not take what it was given will not take this either.
    let patience = end.is_cut().then_some(LAST_WORD);
    // It has not heard it where it took too long: the end is the same.
    let _ = watch.see_off(tell(streams, end), patience).await;
}

/// Tells a client how the session ended.
pub async fn tell(streams: &mut Streams, end: &End) {
    let told = end.told(streams.form);
    if let Some(error) = &mut streams.error
        && !told.is_empty()
    {
        // The client has gone: it is told nothing.
        let _ = error.write(&told).await;
    }
    let outlets = [&mut streams.stdout, &mut streams.stderr, &mut streams.error];
    for outlet in outlets.into_iter().flatten() {
        // As above.
        let _ = outlet.finish().await;
    }
}

async fn join<P: Steer>(
    start: impl Future<Output = Result<Joint<P>>>,
    streams: &mut Streams,
    traffic: &Traffic,
) -> End {
    let joint = match start.await {
        Ok(joint) => joint,
        Err(error) => return End::Failed(error),
    };
    let said = Notify::new();
    let outputs = async {
        let stdout = say(joint.stdout, &mut streams.stdout, (OUTPUT, traffic));
        let stderr = say(joint.stderr, &mut streams.stderr, (COMPLAINT, traffic));
        let said_all = tokio::try_join!(stdout, stderr).map(drop);
        said.notify_one();
        said_all
    };
    let both = async { tokio::try_join!(end_of(&joint.process, &said), outputs) };
    let others = async {
        let input = async {
            let Some(from) = streams.stdin.take() else {
                return;
            };
            // A terminal's is hung up by dropping it: not before the session ends.
            let mut to = joint.stdin;
            let heard = hear(from, &mut to, traffic).await;
            // A connection that is over tells itself how: that was no last word.
            if !matches!(&heard, Err(e) if e.kind() == io::ErrorKind::ConnectionAborted) {
                joint.process.stdin_ended();
            }
            std::future::pending::<()>().await;
        };
        let sizes = follow_sizes(streams.resize.take(), &joint.process);
        tokio::join!(input, sizes);
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        done = both => done.map_or_else(|end| end, |(end, ())| end),
        () = others => End::ClientGone,
    };
    match end {
        // The container was, when it ended: what it said may have been cut off since.
        end @ (End::Gone | End::Detached) => match joint.process.wait().await {
            Ok(Ended::TooSlow) => End::TooSlow,
            _ => end,
        },
        end => end,
    }
}

/// Waits for the process. One that goes on without its client leaves it the rest of what it was
/// given.
async fn end_of<P: Steer>(process: &P, said: &Notify) -> Result<End, End> {
    match process.wait().await {
        Ok(Ended::Exited { code }) => Ok(End::Exited(code)),
        Ok(Ended::Gone) => taken(End::Gone, process, said).await,
        Ok(Ended::Detached) => taken(End::Detached, process, said).await,
        Ok(Ended::TooSlow) => Err(too_slow(said).await),
        Err(error) => Err(End::Failed(error)),
    }
}

/// Who does not take what was said last is cut off after the end.
async fn taken<P: Steer>(end: End, process: &P, said: &Notify) -> Result<End, End> {
    tokio::select! {
        () = said.notified() => Ok(end),
        () = process.cut_off() => Err(too_slow(said).await),
    }
}

async fn too_slow(said: &Notify) -> End {
    let _ = tokio::time::timeout(LAST_OUTPUT, said.notified()).await;
    End::TooSlow
}

/// What a process says goes to the client, to its end, at most so many bytes at once.
async fn say(
    from: Option<Inlet>,
    to: &mut Option<Outlet>,
    (most, traffic): (usize, &Traffic),
) -> Result<(), End> {
    let (Some(mut from), Some(to)) = (from, to) else {
        return Ok(());
    };
    loop {
        let said = next(&mut from, most).await.map_err(|e| {
            End::Failed(crate::error::Error::internal("read what the process says").caused_by(e))
        })?;
        if said.is_empty() {
            return Ok(());
        }
        let lost = |e: io::Error| End::ClientLost(e.to_string());
        to.write(&said).await.map_err(lost)?;
        traffic.send(said.len());
        // What is kept for the client is the only copy.
        drop(said);
        to.taken().await.map_err(lost)?;
    }
}

/// The next bytes, none at the end. Who waits for them has no buffer.
async fn next(from: &mut Inlet, most: usize) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        let mut buffer = Vec::with_capacity(most);
        let read = pin!(from.read_buf(&mut buffer)).poll(cx);
        read.map_ok(|_| buffer)
    })
    .await
}

/// What a client sends goes to the process, to its end. A process that has closed its stdin holds nobody
/// up, and a stream that breaks is one that ends.
async fn hear(mut from: Inlet, to: &mut Option<Mouth>, traffic: &Traffic) -> io::Result<()> {
    let mut buffer = vec![0; INPUT];
    let heard = loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(read) => read,
            Err(error) => break Err(error),
        };
        traffic.receive(read);
        if let Some(open) = to
            && open.write_all(&buffer[..read]).await.is_err()
        {
            *to = None;
        }
    };
    if let Some(open) = to {
        // It has ended then.
        let _ = open.shutdown().await;
    }
    heard
}

/// Each size that is not overtaken by another becomes the terminal's.
async fn follow_sizes<P: Steer>(from: Option<Inlet>, process: &P) {
    let Some(from) = from else { return };
    let mut sizes = Sizes::new(from);
    while let Some(size) = sizes.next().await {
        if let Err(error) = process.resize(size.width, size.height).await {
            tracing::debug!(error = %error.chain(), "a terminal keeps its size");
        }
    }
}

#[cfg(test)]
mod tests;
