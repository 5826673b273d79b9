//! Connections into a pod's network, by `corten-shim dial`: one process for as long as somebody
//! forwards ports, however many connections that makes.

use super::TaskError;
use super::socket::PacketSocket;
use super::spare::{Starter, Verb};
use corten_shim::api::{DialReply, DialRequest};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// What such a helper is called.
pub const VERB: &str = "dial";

type Dialled = Result<Option<OwnedFd>, Errno>;

/// A process in a pod's network namespace that connects to its ports. Dropped, it ends; connections
/// that were made live on.
pub struct Dialer {
    line: Arc<Line>,
    listener: AbortHandle,
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

struct Line {
    socket: PacketSocket,
    next: AtomicU64,
    /// Who waits for which answer; `None` once the process has gone.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Dialled>>>>,
}

impl Dialer {
    /// Over a socket at which requests are answered.
    pub(super) fn over(socket: PacketSocket) -> Self {
        let line = Arc::new(Line {
            socket,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        let listener = tokio::spawn(listen(Arc::clone(&line))).abort_handle();
        Self { line, listener }
    }

    /// Connects to a TCP port of the pod's loopback, by IPv4 or else by IPv6; the socket does not
    /// block.
    ///
    /// # Errors
    /// [`TaskError::Dial`] with the kernel's reason; else that the process has gone.
    pub async fn connect(&self, port: u16) -> Result<OwnedFd, TaskError> {
        let verb = "connect to a port of the pod";
        let dialled = self.line.ask(verb, port, &[]).await?;
        let source = |errno: Errno| TaskError::Dial {
            port,
            source: errno.into(),
        };
        dialled.map_err(source)?.ok_or(TaskError::Protocol { verb })
    }
}

impl Line {
    async fn ask(
        &self,
        verb: &'static str,
        port: u16,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Dialled, TaskError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match &mut *self.waiting() {
            Some(waiting) => {
                waiting.retain(|_, waiter| !waiter.is_closed());
                waiting.insert(id, sender)
            }
            None => return Err(TaskError::Gone { verb }),
        };
        let sent = self.socket.send(&DialRequest { id, port }, fds).await;
        sent.map_err(|source| TaskError::Socket { verb, source })?;
        answer.await.map_err(|_| TaskError::Gone { verb })
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Dialled>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in answers until the process has gone.
async fn listen(line: Arc<Line>) {
    while let Ok(Some(received)) = line.socket.receive::<DialReply>().await {
        let DialReply { id, errno } = received.message;
        let waiter = line.waiting().as_mut().and_then(|all| all.remove(&id));
        let dialled = match errno {
            0 => Ok(received.fds.into_iter().next()),
            errno => Err(Errno::from_raw_os_error(errno)),
        };
        if let Some(waiter) = waiter {
            // Who asked may have gone away: then the connection is closed.
            let _ = waiter.send(dialled);
        }
    }
    *line.waiting() = None;
}

/// Starts a dialer in the network namespace that is pinned here; `None`: in the node's.
pub async fn start(starter: &Arc<Starter>, network: Option<&Path>) -> Result<Dialer, TaskError> {
    let verb = "join the pod's network";
    let failed = |source| TaskError::Socket { verb, source };
    let namespace = network.map(File::open).transpose().map_err(failed)?;
    let spawned = starter.take(Verb::Dial)?;
    let dialer = Dialer::over(spawned.socket);
    if let Some(namespace) = namespace {
        let joined = dialer.line.ask(verb, 0, &[namespace.as_fd()]).await?;
        joined.map_err(|errno| failed(errno.into()))?;
    }
    starter.fill(Verb::Dial);
    Ok(dialer)
}
