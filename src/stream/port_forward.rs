//! One forwarded connection: a client's pair of streams and a connection to a port of the pod.
//!
//! ```text
//! client ─ data ──▶ pod     each direction ends for itself (half-close)
//!        ◀─ data ──
//!        ◀─ error ─         why the port was not reached; else nothing
//! ```
//!
//! A client of Kubernetes gives up its whole session when it finds something on an error stream. So
//! that says why a port could not be reached, and is left empty when the pod resets a connection
//! that was there: then the data stream alone is reset (kubernetes/kubernetes#74551).
//!
//! Invariant: what happens to one connection is nothing to the others of its session.

use super::end::End;
use super::outlet::Outlet;
use super::source::{Dial, Inlet};
use super::watch::Traffic;
use crate::error::Result;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// The most that is read at once from a pod, in bytes.
const FROM_POD: usize = 64 * 1024;
/// The most that is read at once from a client, in bytes.
const TO_POD: usize = 32 * 1024;

/// A client's streams for one connection.
pub struct Pair {
    /// The port of the pod.
    pub port: u16,
    /// What the client sends.
    pub from: Inlet,
    /// What the client hears.
    pub to: Outlet,
    /// Where it hears that the port was not reached.
    pub error: Outlet,
}

/// What connects to a pod's ports, once it is there: for all connections of a session.
pub type Dialing<D> = Shared<BoxFuture<'static, Result<Arc<D>>>>;

/// Lets all connections of a session wait for the same dialer.
pub fn dialing<D: Dial>(dialer: impl Future<Output = Result<D>> + Send + 'static) -> Dialing<D> {
    dialer.map(|dialer| dialer.map(Arc::new)).boxed().shared()
}

/// Waits until the pod is not ready any more. One that cannot be reached has told each connection
/// why.
pub async fn pod_gone<D: Dial>(dialing: Dialing<D>) -> End {
    match dialing.await {
        Ok(dialer) => {
            dialer.gone().await;
            End::PodGone
        }
        Err(_) => std::future::pending().await,
    }
}

/// Connects, and passes on what either side says until both have ended.
pub async fn forward<D: Dial>(dialer: Dialing<D>, pair: Pair, traffic: &Traffic) {
    let Pair {
        port,
        from,
        mut to,
        mut error,
    } = pair;
    let connected = match dialer.await {
        Ok(dialer) => dialer.connect(port).await,
        Err(failure) => Err(failure),
    };
    match connected {
        Err(failure) => {
            tracing::debug!(port, error = %failure.chain(), "a port was not reached");
            // A client that has gone needs no reason.
            let _ = error.write(failure.chain().as_bytes()).await;
            let _ = error.finish().await;
            to.abandon().await;
        }
        Ok(pod) => {
            let whole = exchange(pod, from, &mut to, traffic).await;
            let _ = error.finish().await;
            if whole.is_err() {
                to.abandon().await;
            }
        }
    }
}

/// Passes on both directions, to the end of both or to the first that breaks.
async fn exchange(
    mut pod: TcpStream,
    from: Inlet,
    to: &mut Outlet,
    traffic: &Traffic,
) -> std::io::Result<()> {
    // It only delays small packets.
    let _ = pod.set_nodelay(true);
    let (pod_says, pod_hears) = pod.split();
    tokio::try_join!(down(pod_says, to, traffic), up(from, pod_hears, traffic)).map(drop)
}

/// An idle connection has no buffer here.
async fn down(pod: ReadHalf<'_>, to: &mut Outlet, traffic: &Traffic) -> std::io::Result<()> {
    loop {
        pod.readable().await?;
        let mut buffer = Vec::with_capacity(FROM_POD);
        match pod.try_read_buf(&mut buffer) {
            Ok(0) => return to.finish().await,
            Ok(read) => {
                to.write(&buffer).await?;
                traffic.send(read);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A pod that reads no more holds nobody up.
async fn up(mut from: Inlet, pod: WriteHalf<'_>, traffic: &Traffic) -> std::io::Result<()> {
    let mut pod = Some(pod);
    let mut buffer = vec![0; TO_POD];
    loop {
        let read = from.read(&mut buffer).await?;
        traffic.receive(read);
        let Some(open) = &mut pod else {
            if read == 0 {
                return Ok(());
            }
            continue;
        };
        let heard = match read {
            0 => return open.shutdown().await.or(Ok(())),
            read => open.write_all(&buffer[..read]).await,
        };
        if heard.is_err() {
            pod = None;
        }
    }
}

#[cfg(test)]
mod tests;
