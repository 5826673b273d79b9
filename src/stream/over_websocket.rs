//! Sessions over WebSocket: which channel is what, and how a connection begins and ends.
//!
//! ```text
//! exec, attach   0 stdin ▶   1 ◀ stdout   2 ◀ stderr   3 ◀ error   4 resize ▶
//! port-forward   2i ◀▶ data   2i+1 ◀ error   of the i-th port; each server's channel begins with
//!                the port, 16 bits, little-endian
//! tunnel         SPDY/3.1 in binary messages
//! ```
//!
//! Invariant: a session's last word is sent before its connection is closed.

use super::end::{End, Form};
use super::outlet::Outlet;
use super::port_forward::{self, Pair, STALL};
use super::remote_command::{self, Streams};
use super::source::{Dial, Inlet, Joint, Steer};
use super::spdy::Cut;
use super::watch::Watch;
use super::websocket::{Close, Io, Over, Receiver, Route, Sender, Tunnel, channels::Coding, open};
use crate::engine::session::Wants;
use crate::error::Result;
use futures::FutureExt;
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{BufReader, duplex};
use tokio::sync::oneshot;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: usize = 4;

/// What waits between the connection and who reads a channel, in bytes; for all ports of a session
/// together, as each may wait for its pod. Who passes a port's bytes on reads as much at once.
pub(super) const QUEUE: usize = 16 * 1024;
/// The same for sizes of a terminal.
pub(super) const SIZES: usize = 1024;
/// Each port has two channels, whose numbers have 8 bits; 255 is how v5 says that one has ended.
pub const MOST_PORTS: usize = 127;
/// How long a client may take to say goodbye too where its session was cut. Until it does what it
/// sends is read: closing a connection with unread bytes would take back what was sent to it.
const GOODBYE: Duration = Duration::from_secs(2);

/// A negotiated protocol of exec and attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// How messages are written.
    pub coding: Coding,
    /// How the error channel is.
    pub form: Form,
}

/// An exec or an attach.
pub async fn command<P: Steer>(
    io: Io,
    spoken: Spoken,
    wants: Wants,
    start: impl Future<Output = Result<Joint<P>>>,
    watch: &mut Watch,
) -> End {
    let (receiver, sender) = open(io, spoken.coding);
    let after = watch.clone();
    let mut routes: Vec<Option<Route>> = (0..=RESIZE).map(|_| None).collect();
    let mut route = |channel: usize, room| {
        let (ours, theirs) = duplex(room);
        routes[channel] = Some(Route::new(ours));
        Box::new(theirs) as Inlet
    };
    let outlet = |channel| Outlet::Channel(sender.clone(), channel);
    let streams = Streams {
        stdin: wants.stdin.then(|| route(usize::from(STDIN), QUEUE)),
        resize: wants.tty.then(|| route(RESIZE, SIZES)),
        stdout: wants.stdout.then(|| outlet(STDOUT)),
        stderr: wants.stderr.then(|| outlet(STDERR)),
        error: Some(outlet(ERROR)),
        form: spoken.form,
    };
    let ready = match wants {
        Wants { stdout: true, .. } => STDOUT,
        Wants { stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    let session = async {
        match sender.message(ready, &[]).await {
            Ok(()) => remote_command::run(start, streams, watch).await,
            Err(error) => End::ClientLost(error.to_string()),
        }
    };
    converse((receiver, &sender), routes, session, after).await
}

/// Forwards each of these ports once.
pub async fn ports<D: Dial>(
    io: Io,
    coding: Coding,
    ports: &[u16],
    dialer: impl Future<Output = Result<D>> + Send + 'static,
    watch: &mut Watch,
) -> End {
    let (receiver, sender) = open(io, coding);
    let receiver = receiver.with_stall(STALL);
    let after = watch.clone();
    let mut routes = Vec::new();
    let mut pairs = Vec::new();
    let room = QUEUE / ports.len();
    for (port, data) in ports.iter().zip((0..=252).step_by(2)) {
        let (ours, theirs) = duplex(room);
        let (stalled, until_stalled) = oneshot::channel();
        let route = Route::new(ours).told_of_stalls(stalled);
        routes.extend([Some(route), None]);
        pairs.push(Pair {
            port: *port,
            from: Box::new(BufReader::with_capacity(room, theirs)),
            to: Outlet::Port(sender.clone(), data),
            error: Outlet::Port(sender.clone(), data + 1),
            cut: stalled_only(until_stalled).boxed(),
        });
    }
    let traffic = Arc::clone(&watch.traffic);
    let forwarded = async {
        for (port, channel) in ports
            .iter()
            .zip(0..)
            .flat_map(|(p, i)| [(p, 2 * i), (p, 2 * i + 1)])
        {
            if let Err(error) = sender.message(channel, &port.to_le_bytes()).await {
                return End::ClientLost(error.to_string());
            }
        }
        let dialer = port_forward::dialing(dialer);
        let each = |pair| port_forward::forward(dialer.clone(), pair, &traffic);
        let all = join_all(pairs.into_iter().map(each));
        tokio::select! {
            _ = all => End::Done,
            end = port_forward::pod_gone(dialer.clone()) => end,
        }
    };
    let session = async {
        tokio::select! {
            end = forwarded => end,
            end = watch.cut() => end,
        }
    };
    converse((receiver, &sender), routes, session, after).await
}

/// A client cannot reset a channel: it can only end it.
async fn stalled_only(stalled: oneshot::Receiver<()>) -> Cut {
    match stalled.await {
        Ok(()) => Cut::Stalled,
        Err(_) => std::future::pending().await,
    }
}

/// Runs a session while the connection is read, and closes it after the session's end.
async fn converse(
    (mut receiver, sender): (Receiver, &Sender),
    mut routes: Vec<Option<Route>>,
    session: impl Future<Output = End>,
    mut after: Watch,
) -> End {
    let end = tokio::select! {
        end = session => end,
        over = receiver.pass_on(&mut routes, sender) => of(over),
    };
    let close = match end {
        End::Wrong(_) => Close::Protocol,
        _ => Close::Normal,
    };
    routes.clear();
    let goodbye = async {
        // It fails where the client has gone.
        if sender.close(close).await.is_err() {
            return;
        }
        match end {
            End::ClientGone | End::ClientLost(_) => {}
            // What it says makes no sense.
            End::Wrong(_) => receiver.drain().await,
            _ => drop(receiver.pass_on(&mut [], sender).await),
        }
    };
    let patience = end.is_cut().then_some(GOODBYE);
    let _ = after.see_off(goodbye, patience).await;
    end
}

fn of(over: Over) -> End {
    match over {
        Over::Closed => End::ClientGone,
        Over::Broken(error) => End::ClientLost(error.to_string()),
        Over::Wrong(error) => End::Wrong(crate::error::chain(&error)),
    }
}

/// Another protocol inside of a WebSocket.
pub fn tunnel(io: Io) -> Io {
    Box::new(Tunnel::new(io))
}

#[cfg(test)]
mod tests;
