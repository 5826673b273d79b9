//! One forwarded connection: a client's pair of streams and a connection to a port of the pod.
//!
//! ```text
//! client ─ data ──▶ pod     each direction ends for itself (half-close)
//!        ◀─ data ──
//!        ◀─ error ─         why the port was not reached; else nothing
//! ```
//!
//! A client of Kubernetes gives up its whole session when it finds something on an error stream. So
//! that says why a port could not be reached, and is left empty when a connection that was there is
//! reset: then the data stream alone is (kubernetes/kubernetes#74551).
//!
//! **A pod that pauses.** What its client sends waits, and what it says itself comes. How long depends
//! on who waits behind it:
//!
//! | The client | Others of its session | The paused connection |
//! |---|---|---|
//! | keeps windows (SPDY) | go on | is left alone |
//! | keeps none (spdystream, so kubectl; the channels of a WebSocket) | there are none | is left alone |
//! | keeps none | wait: its bytes stand before theirs | is reset after [`STALL`] |
//!
//! Left alone, it lasts as long as its session, whose bounds are the client and the idle time-out; when
//! the pod reads on, nothing is lost. containerd and CRI-O leave it alone in every case, and the others
//! with it: their server waits for the one stream, and no other is read. A reset of ours is told in the log
//! and the figures, with FLOW_CONTROL_ERROR on the data stream, and in words on the error channel of a
//! WebSocket; not on the error stream of SPDY, for that would end all that it was made for. Of others that
//! wait is known what is open: a connection that is new stands behind the bytes that nobody reads.
//!
//! Invariant: what happens to one connection is nothing to the others of its session. None has a buffer
//! of its own: what comes from a client is kept once for all by its transport, what comes from a pod is read
//! when it can go out.

use super::end::End;
use super::outlet::Outlet;
use super::source::Dial;
use super::spdy::Cut;
use super::upload::Upload;
use super::watch::Traffic;
use crate::error::{Error, Kind, Result};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// How long a connection that its pod does not read may hold up others of its session, where the
/// client keeps no windows: client-go waits 30 seconds for a new one.
pub const STALL: Duration = Duration::from_secs(25);
/// Pieces of what a client has sent that go to its pod in one call.
const PIECES: usize = 16;

/// How long a port may take to answer.
const DIAL: Duration = Duration::from_secs(30);

/// A client's streams for one connection.
pub struct Pair {
    /// The port of the pod.
    pub port: u16,
    /// What the client sends.
    pub from: Box<dyn Upload>,
    /// What the client hears.
    pub to: Outlet,
    /// Where it hears that the port was not reached.
    pub error: Outlet,
    /// Is over when the connection was reset, whoever reads or waits then.
    pub cut: BoxFuture<'static, Cut>,
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
        cut,
    } = pair;
    let (pod, connected) = match dialer.await {
        Ok(dialer) => (dialer.pod().to_owned(), dial(&*dialer, port).await),
        Err(failure) => (String::new(), Err(failure)),
    };
    match connected {
        Err(failure) => {
            tracing::debug!(port, error = %failure.chain(), "a port was not reached");
            // A client that has gone needs no reason.
            let _ = error.write(failure.chain().as_bytes()).await;
            let _ = error.finish().await;
            to.abandon().await;
        }
        Ok(connection) => {
            let whole = tokio::select! {
                // Begun first: a pod whose connection is cut before that would see an end.
                biased;
                whole = exchange(connection, from, &mut to, traffic) => whole,
                cut = cut => Err(cut_off(cut, (&pod, port), &mut error, traffic).await),
            };
            let _ = error.finish().await;
            if whole.is_err() {
                to.abandon().await;
            }
        }
    }
}

/// Tells of a connection that was reset for the others; that a client has reset one is its own affair.
async fn cut_off(
    cut: Cut,
    (pod, port): (&str, u16),
    error: &mut Outlet,
    traffic: &Traffic,
) -> io::Error {
    if cut == Cut::Stalled {
        traffic.stall();
        let reason = format!(
            "connection to port {port} of pod {pod} reset: the pod has not read it for {STALL:?}, while other connections of this session waited behind it"
        );
        tracing::warn!(
            port,
            pod,
            reason,
            "a forwarded connection held up its session"
        );
        if error.bears_a_reason() {
            // A client that has gone needs none.
            let _ = error.write(reason.as_bytes()).await;
        }
    }
    io::ErrorKind::ConnectionReset.into()
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
async fn exchange(
    pod: TcpStream,
    from: Box<dyn Upload>,
    to: &mut Outlet,
    traffic: &Traffic,
) -> io::Result<()> {
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
    let down = down(pod_says, to, traffic);
    let up = async {
        up(from, pod_hears, traffic).await?;
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

/// A pod is read when its client takes something. Who waits, for the pod or for the client, has no
/// buffer here.
async fn down(pod: ReadHalf<'_>, to: &mut Outlet, traffic: &Traffic) -> io::Result<()> {
    loop {
        pod.readable().await?;
        match to.relay(&mut |place| pod.try_read_buf(place)).await {
            Ok(0) => return to.finish().await,
            Ok(read) => traffic.send(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A pod that reads no more holds nobody up. What a pod does not take yet stays where it is.
async fn up(mut from: Box<dyn Upload>, pod: WriteHalf<'_>, traffic: &Traffic) -> io::Result<()> {
    let mut pod = Some(pod);
    loop {
        let taken = poll_fn(|cx| poll_pass(&mut *from, &mut pod, cx)).await?;
        if taken == 0 {
            break;
        }
        traffic.receive(taken);
        from.consume(taken);
    }
    match &mut pod {
        // It has gone then.
        Some(open) => open.shutdown().await.or(Ok(())),
        None => Ok(()),
    }
}

/// How much the pod has taken: all, where it is gone; 0 at the client's end.
fn poll_pass(
    from: &mut dyn Upload,
    pod: &mut Option<WriteHalf<'_>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); PIECES];
    let used = ready!(from.poll_chunks(cx, &mut slices))?;
    let slices = &slices[..used];
    let all = slices.iter().map(|slice| slice.len()).sum();
    let Some(open) = pod.as_mut().filter(|_| all > 0) else {
        return Poll::Ready(Ok(all));
    };
    match ready!(Pin::new(open).poll_write_vectored(cx, slices)) {
        Ok(taken @ 1..) => Poll::Ready(Ok(taken)),
        Ok(_) | Err(_) => {
            *pod = None;
            Poll::Ready(Ok(all))
        }
    }
}

#[cfg(test)]
mod tests;
