//! The HTTP/1.1 server: a request with a token becomes a session, and everything else an answer in
//! plain text.
//!
//! ```text
//! accept ─ TLS ─ request ─ method, path, token known? ─ protocol? ─ token taken ─ 101 ─ session
//!                            405     404   404            400, 403     404
//! ```
//!
//! Invariant: a token is taken only by a request that becomes a session, so that a client whose
//! protocol is refused may come again with another one (only of how many ports a session is, is known
//! when it is taken).

use super::account::Account;
use super::end::End;
use super::negotiate::{Agreed, Protocol, negotiate};
use super::over_spdy::{self, Terms};
use super::over_websocket;
use super::socket::Socket;
use super::source::{Joint, Source};
use super::tls::{Acceptor, Files, bounded};
use super::watch::{Phase, Watch};
use super::websocket::Io;
use crate::engine::session::{Kind, Session, Wants};
use crate::error::{Context, Kind as ErrorKind, Result, chain};
use crate::metrics::StreamingMetrics;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long a client may take for TLS, and for its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may be silent before it is asked whether it is there, and how often after that.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// Clients at once whose session has not begun.
const NEWCOMERS: usize = 1024;

/// How long sessions may take for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Nothing flows.
    pub idle: Duration,
    /// A client opens its streams.
    pub creation: Duration,
}

/// What a server is made from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// The files of TLS; `None`: plain HTTP.
    pub tls: Option<Files>,
    /// How long sessions may take.
    pub times: Times,
}

/// A server whose address is taken.
pub struct Server {
    listener: TcpListener,
    acceptor: Option<Arc<Acceptor>>,
    base: String,
    control: Control,
}

/// Reaches a server that runs. All copies are the same.
#[derive(Clone)]
pub struct Control {
    phase: Arc<watch::Sender<Phase>>,
    live: Arc<watch::Sender<usize>>,
    times: Arc<RwLock<Times>>,
}

impl Control {
    fn new(times: Times) -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Serving)),
            live: Arc::new(watch::Sender::new(0)),
            times: Arc::new(RwLock::new(times)),
        }
    }

    /// Sessions that begin from now on have these times.
    pub fn set_times(&self, times: Times) {
        *self.times.write().unwrap_or_else(PoisonError::into_inner) = times;
    }

    fn times(&self) -> Times {
        *self.times.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no new session, lets those that are open go on for so long, and then ends them. Gives
    /// how many that were.
    pub async fn drain(&self, time: Duration) -> usize {
        self.phase.send_replace(Phase::Draining);
        let mut live = self.live.subscribe();
        if tokio::time::timeout(time, live.wait_for(|live| *live == 0))
            .await
            .is_ok()
        {
            return 0;
        }
        let left = *live.borrow();
        self.phase.send_replace(Phase::Ending);
        // They only say goodbye, within times of their own.
        let _ = tokio::time::timeout(PATIENCE, live.wait_for(|live| *live == 0)).await;
        left
    }

    /// Counts a session in, until what is given is dropped.
    fn enter(&self) -> Entered {
        self.live.send_modify(|live| *live += 1);
        Entered(Arc::clone(&self.live))
    }
}

struct Entered(Arc<watch::Sender<usize>>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.send_modify(|live| *live -= 1);
    }
}

impl Server {
    /// Takes the address, and reads the files of TLS.
    ///
    /// # Errors
    /// `FailedPrecondition` where the address or a file cannot be used.
    pub async fn bind(settings: Settings) -> Result<Self> {
        let address = settings.address;
        let failed = || format!("listen on [streaming] address {address}");
        let listener = TcpListener::bind(address).await;
        let listener = listener.context(ErrorKind::FailedPrecondition, failed)?;
        let local = listener
            .local_addr()
            .context(ErrorKind::FailedPrecondition, failed)?;
        let scheme = settings.tls.as_ref().map_or("http", |_| "https");
        let acceptor = match settings.tls {
            Some(files) => Some(Arc::new(Acceptor::new(files).await?)),
            None => None,
        };
        Ok(Self {
            listener,
            acceptor,
            base: format!("{scheme}://{}", reachable(local)),
            control: Control::new(settings.times),
        })
    }

    /// What a session's URL begins with.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Reaches it while it runs.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Serves until it is dropped; sessions that are open go on then.
    pub async fn serve<S: Source>(self, source: Arc<S>, metrics: StreamingMetrics) -> Infallible {
        let Self {
            listener,
            acceptor,
            control,
            ..
        } = self;
        let desk = Arc::new(Desk {
            source,
            metrics,
            control,
        });
        let mut newcomers = Newcomers::new(NEWCOMERS);
        loop {
            let client = accept(&listener).await;
            let (desk, acceptor) = (Arc::clone(&desk), acceptor.clone());
            let served = tokio::spawn(async move {
                let refused = desk.converse(client, acceptor.as_deref()).await;
                if let Err(error) = refused {
                    tracing::debug!(error = %error.chain(), "a client of the streaming server has gone");
                }
            });
            newcomers.add(served.abort_handle());
        }
    }
}

/// Takes the next client. That none can be taken, for want of descriptors say, is told once.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(error) if told => tracing::debug!(%error, "still no client can be taken"),
            Err(error) => {
                told = true;
                tracing::warn!(%error, "no client of the streaming server can be taken");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Finished ones are let go of as often.
const SWEEP: usize = 32;

/// Clients whose session has not begun. For one too many the one that has kept its place for longest
/// goes: a real client needs its place for a moment.
struct Newcomers {
    most: usize,
    all: VecDeque<AbortHandle>,
}

impl Newcomers {
    fn new(most: usize) -> Self {
        let all = VecDeque::new();
        Self { most, all }
    }

    fn add(&mut self, newcomer: AbortHandle) {
        // A handle keeps what its task was made of.
        if self.all.len() >= self.most || self.all.len().is_multiple_of(SWEEP) {
            self.all.retain(|one| !one.is_finished());
        }
        if self.all.len() >= self.most
            && let Some(oldest) = self.all.pop_front()
        {
            oldest.abort();
        }
        self.all.push_back(newcomer);
    }
}

/// Lets the kernel find out that a client's host has gone without a word.
fn keep_alive(client: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(client, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(client, KEEP_ALIVE)?;
    sockopt::set_socket_keepalive(client, true)
}

/// The address as a client of this node reaches it.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

type Answer = Response<Full<Bytes>>;

/// Who answers requests.
struct Desk<S> {
    source: Arc<S>,
    metrics: StreamingMetrics,
    control: Control,
}

impl<S: Source> Desk<S> {
    async fn converse(self: Arc<Self>, client: TcpStream, tls: Option<&Acceptor>) -> Result<()> {
        // It only delays small packets.
        let _ = client.set_nodelay(true);
        if let Err(error) = keep_alive(&client) {
            tracing::debug!(%error, "a client is not asked whether it is still there");
        }
        let client = Arc::new(client);
        let io: Io = match tls {
            None => Box::new(Socket(Arc::clone(&client))),
            Some(acceptor) => {
                let acceptor = acceptor.current().await;
                let shaken = acceptor.accept(Socket(Arc::clone(&client)));
                let shaken = tokio::time::timeout(PATIENCE, shaken).await;
                let shaken = shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
                bounded(shaken.context(ErrorKind::Unavailable, || "agree on TLS".to_owned())?)
            }
        };
        let answer = |request| {
            let answer = self.answer(request, &client);
            std::future::ready(Ok::<_, Infallible>(answer))
        };
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(LONGEST_HEAD)
            .serve_connection(TokioIo::new(io), service_fn(answer))
            .with_upgrades()
            .await
            .context(ErrorKind::Unavailable, || "read a request".to_owned())
    }

    /// Answers, and lets a session begin where there is one.
    fn answer(self: &Arc<Self>, request: Request<Incoming>, client: &Arc<TcpStream>) -> Answer {
        // Before it is asked whether the daemon stops: a drain waits for who was told that it does not.
        let entered = self.control.enter();
        let (session, agreed) = match self.session(&request) {
            Ok(begun) => begun,
            Err(refusal) => return *refusal,
        };
        let Agreed { protocol, headers } = agreed;
        let metrics = &self.metrics;
        let transport = protocol.transport();
        let account = Account::open(
            &session,
            transport,
            metrics.start(session.kind().segment(), transport),
        );
        let times = self.control.times();
        let watch = Watch {
            traffic: account.traffic(),
            idle: times.idle,
            phase: self.control.phase.subscribe(),
            peer: Some(Arc::clone(client)),
        };
        let desk = Arc::clone(self);
        tokio::spawn(async move {
            let end = match hyper::upgrade::on(request).await {
                Ok(io) => {
                    let io = Box::new(TokioIo::new(io));
                    let begun = Begun {
                        session,
                        protocol,
                        creation: times.creation,
                        watch,
                    };
                    desk.run(io, begun).await
                }
                Err(error) => End::ClientLost(chain(&error)),
            };
            account.close(&end);
            drop(entered);
        });
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = headers;
        answer
    }

    fn session(&self, request: &Request<Incoming>) -> Result<(Session, Agreed), Box<Answer>> {
        let unknown = || {
            let reason = "there is no such session: its URL is good for one use within a minute";
            Box::new(refusal(StatusCode::NOT_FOUND, reason))
        };
        let (kind, token) = place(request.uri().path()).ok_or_else(unknown)?;
        if !matches!(*request.method(), Method::GET | Method::POST) {
            let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST");
            let allowed = HeaderValue::from_static("GET, POST");
            answer.headers_mut().insert(ALLOW, allowed);
            return Err(Box::new(answer));
        }
        if *self.control.phase.borrow() != Phase::Serving {
            let reason = "the container runtime stops; ask for a session in a moment";
            let answer = refusal(StatusCode::SERVICE_UNAVAILABLE, reason);
            return Err(Box::new(answer));
        }
        if !self.source.knows(kind, token) {
            return Err(unknown());
        }
        let agreed = negotiate(kind, request.headers()).map_err(|disagreed| {
            let mut answer = refusal(disagreed.status, &disagreed.reason);
            disagreed.name_protocols(&mut answer);
            Box::new(answer)
        })?;
        let session = self.source.take(kind, token).ok_or_else(unknown)?;
        if let (Session::PortForward(ask), Protocol::SocketPorts(_)) = (&session, agreed.protocol)
            && !(1..=over_websocket::MOST_PORTS).contains(&ask.ports.len())
        {
            let reason = format!(
                "{} ports: there are channels for between 1 and {}",
                ask.ports.len(),
                over_websocket::MOST_PORTS
            );
            return Err(Box::new(refusal(StatusCode::BAD_REQUEST, &reason)));
        }
        Ok((session, agreed))
    }

    async fn run(&self, io: Io, begun: Begun) -> End {
        let Begun {
            session,
            protocol,
            creation,
            mut watch,
        } = begun;
        let source = Arc::clone(&self.source);
        match session {
            Session::Exec(ask) => {
                let wants = ask.wants;
                let start = source.exec(ask);
                command(io, (protocol, creation), wants, start, &mut watch).await
            }
            Session::Attach(ask) => {
                let wants = ask.wants;
                let start = source.attach(ask);
                command(io, (protocol, creation), wants, start, &mut watch).await
            }
            Session::PortForward(ask) => {
                let ports = ask.ports.clone();
                let dialer = async move { source.dialer(ask).await };
                match protocol {
                    Protocol::SocketPorts(coding) => {
                        over_websocket::ports(io, coding, &ports, dialer, &mut watch).await
                    }
                    Protocol::TunnelledPorts => {
                        let io = over_websocket::tunnel(io);
                        over_spdy::ports(io, dialer, creation, &mut watch).await
                    }
                    _ => over_spdy::ports(io, dialer, creation, &mut watch).await,
                }
            }
        }
    }
}

/// A session whose answer is on its way.
struct Begun {
    session: Session,
    protocol: Protocol,
    creation: Duration,
    watch: Watch,
}

async fn command<P: super::source::Steer>(
    io: Io,
    (protocol, creation): (Protocol, Duration),
    wants: Wants,
    start: impl Future<Output = Result<Joint<P>>>,
    watch: &mut Watch,
) -> End {
    match protocol {
        Protocol::SocketCommand(spoken) => {
            over_websocket::command(io, spoken, wants, start, watch).await
        }
        Protocol::SpdyCommand(version) => {
            let terms = Terms {
                version,
                wants,
                creation,
            };
            over_spdy::command(io, terms, start, watch).await
        }
        Protocol::SpdyPorts | Protocol::SocketPorts(_) | Protocol::TunnelledPorts => {
            End::Wrong("a command has no ports".to_owned())
        }
    }
}

/// The kind and the token in `/exec/TOKEN`.
fn place(path: &str) -> Option<(Kind, &str)> {
    let (segment, token) = path.strip_prefix('/')?.split_once('/')?;
    let kinds = [Kind::Exec, Kind::Attach, Kind::PortForward];
    let kind = kinds.into_iter().find(|kind| kind.segment() == segment)?;
    (!token.is_empty() && !token.contains('/')).then_some((kind, token))
}

fn refusal(status: StatusCode, reason: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{reason}\n"))));
    *answer.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
}

#[cfg(test)]
mod tests;
