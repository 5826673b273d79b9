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
use crate::error::{Error, Kind, Result};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The most that is read at once from a pod, in bytes.
pub(super) const FROM_POD: usize = 32 * 1024;
/// The most that is read at once from a client, in bytes.
pub(super) const TO_POD: usize = 16 * 1024;
/// What is read at once from a pod by who has waited for the buffer for too long, in bytes.
const SIP: usize = 256;
/// How long that is.
const THIRST: Duration = Duration::from_secs(1);

/// How long a port may take to answer.
const DIAL: Duration = Duration::from_secs(30);

/// What the connections of a session have in common.
pub struct Flow {
    traffic: Arc<Traffic>,
    /// One buffer for all that come from the pod: they wait for the same client.
    place: Semaphore,
}

impl Flow {
    /// Bytes are counted here.
    #[must_use]
    pub fn new(traffic: Arc<Traffic>) -> Arc<Self> {
        let place = Semaphore::new(1);
        Arc::new(Self { traffic, place })
    }

    /// How much may be read, when it is one's turn. Where a client takes nothing for one connection
    /// the others still go on, if slowly.
    async fn place(&self) -> (usize, Option<SemaphorePermit<'_>>) {
        match tokio::time::timeout(THIRST, self.place.acquire()).await {
            Ok(Ok(place)) => (FROM_POD, Some(place)),
            _ => (SIP, None),
        }
    }
}

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
    /// Is over when the client has reset the connection, whoever reads or waits then.
    pub reset: BoxFuture<'static, ()>,
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
pub async fn forward<D: Dial>(dialer: Dialing<D>, pair: Pair, flow: &Flow) {
    let Pair {
        port,
        from,
        mut to,
        mut error,
        reset,
    } = pair;
    let connected = match dialer.await {
        Ok(dialer) => dial(&*dialer, port).await,
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
            let whole = tokio::select! {
                whole = exchange(pod, from, &mut to, flow) => whole,
                () = reset => Err(io::ErrorKind::ConnectionReset.into()),
            };
            let _ = error.finish().await;
            if whole.is_err() {
                to.abandon().await;
            }
        }
    }
}

/// The kernel alone would go on for minutes where a port's queue is full.
async fn dial<D: Dial>(dialer: &D, port: u16) -> Result<TcpStream> {
    let connected = tokio::time::timeout(DIAL, dialer.connect(port)).await;
    connected.unwrap_or_else(|_| {
        let waited = format!("connect to port {port} of the pod: no answer within {DIAL:?}");
        Err(Error::new(Kind::Unavailable, waited))
    })
}

/// Passes on both directions, to the end of both or to the first that breaks.
async fn exchange(pod: TcpStream, from: Inlet, to: &mut Outlet, flow: &Flow) -> io::Result<()> {
    // It only delays small packets.
    let _ = pod.set_nodelay(true);
    let can_end = to.can_end();
    let mut pod = Pod {
        connection: pod,
        may_end: !can_end,
    };
    let Pod {
        connection,
        may_end,
    } = &mut pod;
    let (pod_says, pod_hears) = connection.split();
    let down = down(pod_says, to, flow);
    let up = async {
        up(from, pod_hears, flow).await?;
        *may_end = true;
        Ok(())
    };
    if can_end {
        return tokio::try_join!(down, up).map(drop);
    }
    // A client that cannot be told of it would wait for ever for the pod's end.
    tokio::select! {
        ended = down => ended,
        Err(broken) = up => Err(broken),
    }
}

/// A connection to a pod. Dropped before its client has ended its direction, where that can be told,
/// the pod sees a reset: an end would say that all had come.
struct Pod {
    connection: TcpStream,
    may_end: bool,
}

impl Drop for Pod {
    fn drop(&mut self) {
        if !self.may_end {
            // It is closed in any case.
            let _ = self.connection.set_zero_linger();
        }
    }
}

/// An idle connection has no buffer here, and one that waits for its client has no more than its share.
async fn down(pod: ReadHalf<'_>, to: &mut Outlet, flow: &Flow) -> io::Result<()> {
    loop {
        pod.readable().await?;
        let (most, _place) = flow.place().await;
        let mut buffer = Vec::with_capacity(most);
        match pod.try_read_buf(&mut buffer) {
            Ok(0) => return to.finish().await,
            Ok(read) => {
                to.write(&buffer).await?;
                flow.traffic.send(read);
                // What is kept for the client is the only copy.
                drop(buffer);
                to.taken().await?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A pod that reads no more holds nobody up. What a pod does not take yet stays where it is.
async fn up(mut from: Inlet, pod: WriteHalf<'_>, flow: &Flow) -> io::Result<()> {
    let mut pod = Some(pod);
    loop {
        if let Some(open) = &pod
            && open.writable().await.is_err()
        {
            pod = None;
        }
        let read = read(&mut from).await?;
        flow.traffic.receive(read.len());
        let Some(open) = &mut pod else {
            if read.is_empty() {
                return Ok(());
            }
            continue;
        };
        if read.is_empty() {
            return open.shutdown().await.or(Ok(()));
        }
        if open.write_all(&read).await.is_err() {
            pod = None;
        }
    }
}

/// The next bytes, none at the end. Who waits for them has no buffer.
async fn read(from: &mut Inlet) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        let mut buffer = vec![0; TO_POD];
        let mut space = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut *from).poll_read(cx, &mut space))?;
        let read = space.filled().len();
        buffer.truncate(read);
        Poll::Ready(Ok(buffer))
    })
    .await
}

#[cfg(test)]
mod tests;
