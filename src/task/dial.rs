//! Connections into a pod's network, over sockets that `corten-shim dial` makes there: one process for
//! as long as somebody forwards ports, however many connections that makes. After that it goes back
//! to the node's network and into reserve, so that sessions in a row start no program.

use super::TaskError;
use super::process::{Kill, Spawned};
use super::socket::PacketSocket;
use super::spare::{Starter, Verb};
use corten_shim::api::{DialReply, DialRequest, DialWish};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What such a helper is called.
pub const VERB: &str = "dial";

type Made = Result<Vec<OwnedFd>, Errno>;

/// The daemon's own network namespace, which is the node's.
const HOME: &str = "/proc/self/ns/net";
/// How long a dialer may take to come back from a pod.
const WAY_HOME: Duration = Duration::from_secs(1);

/// A process in a pod's network namespace that makes sockets to its ports. Dropped, it leaves the pod;
/// connections that were made live on.
pub struct Dialer {
    /// There until it is dropped.
    line: Option<Arc<Line>>,
    listener: JoinHandle<()>,
    home: Option<Home>,
    /// What came when the pod was joined, for the first connection.
    first: Mutex<Vec<OwnedFd>>,
}

/// Where a dialer goes when it is not needed any more.
struct Home {
    starter: Arc<Starter>,
    kill: Kill,
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.listener.abort();
        // Without an event loop the daemon is ending, and its descriptors with it.
        if let (Some(line), Some(home), Ok(runtime)) =
            (self.line.take(), self.home.take(), Handle::try_current())
        {
            runtime.spawn(go_home(line, home));
        }
    }
}

struct Line {
    socket: PacketSocket,
    next: AtomicU64,
    /// Who waits for which answer; `None` once the process has gone.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Made>>>>,
}

impl Dialer {
    /// Over a socket at which requests are answered.
    pub(super) fn over(socket: PacketSocket) -> Self {
        let line = Arc::new(Line {
            socket,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        Self {
            listener: tokio::spawn(listen(Arc::clone(&line))),
            line: Some(line),
            home: None,
            first: Mutex::default(),
        }
    }

    async fn ask(
        &self,
        verb: &'static str,
        wish: DialWish,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Made, TaskError> {
        let line = self.line.as_ref().ok_or(TaskError::Gone { verb })?;
        line.ask(verb, wish, fds).await
    }

    /// Connects to a TCP port of the pod's loopback, by IPv4 or else by IPv6.
    ///
    /// # Errors
    /// [`TaskError::Dial`] with the kernel's reason, of the two addresses the first one's; else that
    /// the process has gone.
    pub async fn connect(&self, port: u16) -> Result<TcpStream, TaskError> {
        let mut refused = None;
        for socket in self.sockets(port).await? {
            // Most listen at the first or nowhere: its reason is what a person wants to know.
            match connect(socket, port).await {
                Ok(stream) => return Ok(stream),
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        let source = refused.unwrap_or_else(|| Errno::AFNOSUPPORT.into());
        Err(TaskError::Dial { port, source })
    }

    /// Sockets for one connection, in the order in which they are tried.
    async fn sockets(&self, port: u16) -> Result<Vec<OwnedFd>, TaskError> {
        let first = std::mem::take(&mut *lock(&self.first));
        if !first.is_empty() {
            return Ok(first);
        }
        let verb = "make a socket in the pod's network";
        let made = self.ask(verb, DialWish::Sockets, &[]).await?;
        made.map_err(|errno| TaskError::Dial {
            port,
            source: errno.into(),
        })
    }
}

async fn connect(socket: OwnedFd, port: u16) -> io::Result<TcpStream> {
    let address: SocketAddr = match sockopt::socket_domain(&socket)? {
        AddressFamily::INET6 => (Ipv6Addr::LOCALHOST, port).into(),
        _ => (Ipv4Addr::LOCALHOST, port).into(),
    };
    TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
}

fn lock<T>(place: &Mutex<T>) -> MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    async fn ask(
        &self,
        verb: &'static str,
        wish: DialWish,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Made, TaskError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match &mut *self.waiting() {
            Some(waiting) => {
                waiting.retain(|_, waiter| !waiter.is_closed());
                waiting.insert(id, sender)
            }
            None => return Err(TaskError::Gone { verb }),
        };
        let sent = self.socket.send(&DialRequest { id, wish }, fds).await;
        sent.map_err(|source| TaskError::Socket { verb, source })?;
        answer.await.map_err(|_| TaskError::Gone { verb })
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Made>>>> {
        lock(&self.waiting)
    }
}

/// Takes in answers until the process has gone.
async fn listen(line: Arc<Line>) {
    while let Ok(Some(received)) = line.socket.receive_any::<DialReply>().await {
        let DialReply { id, errno } = received.message;
        let waiter = line.waiting().as_mut().and_then(|all| all.remove(&id));
        let made = match errno {
            // It is nothing to the other connections.
            0 if received.lost => Err(Errno::MFILE),
            0 => Ok(received.fds),
            errno => Err(Errno::from_raw_os_error(errno)),
        };
        if let Some(waiter) = waiter {
            // Who asked may have gone away: then they are closed.
            let _ = waiter.send(made);
        }
    }
    *line.waiting() = None;
}

/// Starts a dialer in the network namespace that is pinned here; `None`: in the node's.
pub async fn start(starter: &Arc<Starter>, network: Option<&Path>) -> Result<Dialer, TaskError> {
    let verb = "join the pod's network";
    let failed = |source| TaskError::Socket { verb, source };
    let namespace = network.map(File::open).transpose().map_err(failed)?;
    let Spawned { socket, kill } = starter.take(Verb::Dial)?;
    let mut dialer = Dialer::over(socket);
    if let Some(namespace) = namespace {
        let fds = [namespace.as_fd()];
        let joined = dialer.ask(verb, DialWish::Join, &fds).await?;
        dialer.first = Mutex::new(joined.map_err(|errno| failed(errno.into()))?);
    }
    starter.fill(Verb::Dial);
    dialer.home = Some(Home {
        starter: Arc::clone(starter),
        kill,
    });
    Ok(dialer)
}

/// Lets a dialer leave its pod. One that does not is left alone: it ends with its socket.
async fn go_home(mut line: Arc<Line>, home: Home) {
    // The listener was told to end, and soon lets go of it.
    let Line { socket, next, .. } = loop {
        match Arc::try_unwrap(line) {
            Ok(line) => break line,
            Err(shared) => line = shared,
        }
        tokio::task::yield_now().await;
    };
    let id = next.into_inner();
    let Home { starter, kill } = home;
    if let Ok(Ok(true)) = tokio::time::timeout(WAY_HOME, rest(&socket, id)).await {
        starter.give_back(Verb::Dial, Spawned { socket, kill });
    }
}

/// Whether the dialer is in the node's network again. What it has made on the way is closed.
async fn rest(socket: &PacketSocket, id: u64) -> io::Result<bool> {
    let home = File::open(HOME)?;
    let wish = DialWish::Rest;
    socket
        .send(&DialRequest { id, wish }, &[home.as_fd()])
        .await?;
    while let Some(received) = socket.receive_any::<DialReply>().await? {
        if received.message.id == id {
            return Ok(received.message.errno == 0);
        }
    }
    Ok(false)
}
