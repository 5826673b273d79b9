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
use super::newcomers::Newcomers;
use super::over_spdy::{self, Terms};
use super::over_websocket;
use super::refusal::{Answer, Reason, Refusal, Refusals};
use super::socket::Socket;
use super::source::{Joint, Source};
use super::tls::{Acceptor, Files, bounded};
use super::watch::{Phase, Watch};
use super::websocket::Io;
use crate::engine::session::{Kind, Session, Wants};
use crate::error::{Context, Error, Kind as ErrorKind, Result, chain};
use crate::metrics::StreamingMetrics;
use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a client may take for TLS, and for its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long sessions that were ended may say goodbye, when the daemon stops.
const GOODBYES: Duration = Duration::from_secs(8);
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
#[derive(Clone)]
pub struct Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// The files of TLS; `None`: plain HTTP.
    pub tls: Option<Files>,
    /// What reaches it.
    pub control: Control,
}

/// A server whose address is taken.
pub struct Server {
    listener: TcpListener,
    acceptor: Option<Arc<Acceptor>>,
    base: String,
    control: Control,
}

/// Reaches a server, also before it is bound. All copies are the same.
#[derive(Clone)]
pub struct Control {
    phase: Arc<watch::Sender<Phase>>,
    live: Arc<watch::Sender<usize>>,
    times: Arc<RwLock<Times>>,
}

impl Control {
    /// Of a server whose sessions have these times.
    #[must_use]
    pub fn new(times: Times) -> Self {
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

    /// How many sessions are open.
    #[must_use]
    pub fn live(&self) -> usize {
        *self.live.borrow()
    }

    /// Takes no new session, lets those that are open go on for so long, and then ends them. Gives
    /// how many that were.
    pub async fn drain(&self, time: Duration) -> usize {
        self.phase.send_replace(Phase::Draining);
        if self.are_done(time).await {
            return 0;
        }
        let left = self.live();
        self.phase.send_replace(Phase::Ending);
        if !self.are_done(GOODBYES).await {
            // Who answers nothing is told of all the same, and why it ended.
            self.phase.send_replace(Phase::Over);
            self.are_done(GOODBYES).await;
        }
        left
    }

    /// Whether all sessions end within this time.
    async fn are_done(&self, time: Duration) -> bool {
        let mut live = self.live.subscribe();
        let done = live.wait_for(|live| *live == 0);
        tokio::time::timeout(time, done).await.is_ok()
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
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| not_taken(address, error))?;
        let local = listener
            .local_addr()
            .map_err(|error| not_taken(address, error))?;
        let scheme = settings.tls.as_ref().map_or("http", |_| "https");
        let acceptor = match settings.tls {
            Some(files) => Some(Arc::new(Acceptor::new(files).await?)),
            None => None,
        };
        Ok(Self {
            listener,
            acceptor,
            base: format!("{scheme}://{}", reachable(local)),
            control: settings.control,
        })
    }

    /// What a session's URL begins with.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
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
            refusals: Refusals::new(metrics.clone()),
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

/// Why the address cannot be listened at, and what a person can do.
fn not_taken(address: SocketAddr, error: std::io::Error) -> Error {
    let port = address.port();
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "another program listens there, `ss -ltnp 'sport = :{port}'` tells which: end it, or give another port, 0 for any free one"
        ),
        std::io::ErrorKind::AddrNotAvailable => {
            "no interface of this node has that address, `ip address` lists them".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            "the daemon may not take that port: give one above 1023".to_owned()
        }
        _ => "give another address".to_owned(),
    };
    let message = format!("listen at {address}, which is `[streaming] address` ({hint})");
    Error::new(ErrorKind::FailedPrecondition, message).caused_by(error)
}

/// Who answers requests.
struct Desk<S> {
    source: Arc<S>,
    refusals: Refusals,
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
        let remote = client.peer_addr().ok();
        let client = Arc::new(client);
        let io: Io = match tls {
            None => Box::new(Socket(Arc::clone(&client))),
            Some(acceptor) => {
                let acceptor = acceptor.current().await;
                let shaken = acceptor.accept(Socket(Arc::clone(&client)));
                let shaken = tokio::time::timeout(PATIENCE, shaken).await;
                let shaken = shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
                // Who only looks whether somebody listens has said nothing wrong.
                if let Err(error) = &shaken
                    && error.kind() == std::io::ErrorKind::InvalidData
                {
                    self.refusals.tell(remote, Reason::Tls, error);
                }
                bounded(shaken.context(ErrorKind::Unavailable, || "agree on TLS".to_owned())?)
            }
        };
        let answer = |request| {
            let answer = self.answer(request, &client).unwrap_or_else(|refusal| {
                self.refusals.tell(remote, refusal.reason, &refusal.text);
                refusal.answer()
            });
            std::future::ready(Ok::<_, Infallible>(answer))
        };
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(LONGEST_HEAD)
            .serve_connection(TokioIo::new(io), service_fn(answer))
            .with_upgrades()
            .await;
        if let Err(error) = &served
            && error.is_parse()
        {
            self.refusals.tell(remote, Reason::Request, error);
        }
        served.context(ErrorKind::Unavailable, || "read a request".to_owned())
    }

    /// Answers, and lets a session begin where there is one.
    fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: &Arc<TcpStream>,
    ) -> Result<Answer, Refusal> {
        // Before it is asked whether the daemon stops: a drain waits for who was told that it does not.
        let entered = self.control.enter();
        let (session, agreed) = self.session(&request)?;
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
        let mut after = watch.clone();
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
                    tokio::select! {
                        end = desk.run(io, begun) => end,
                        end = after.over() => end,
                    }
                }
                Err(error) => End::ClientLost(chain(&error)),
            };
            account.close(&end);
            drop(entered);
        });
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = headers;
        Ok(answer)
    }

    fn session(&self, request: &Request<Incoming>) -> Result<(Session, Agreed), Refusal> {
        let unknown = |reason| {
            let text = "there is no such session: its URL is good for one use within a minute";
            Refusal::new(reason, StatusCode::NOT_FOUND, text)
        };
        let (kind, token) = place(request.uri().path()).ok_or_else(|| unknown(Reason::Path))?;
        if !matches!(*request.method(), Method::GET | Method::POST) {
            let text = "only GET and POST";
            let refusal = Refusal::new(Reason::Method, StatusCode::METHOD_NOT_ALLOWED, text);
            return Err(refusal.with(ALLOW, HeaderValue::from_static("GET, POST")));
        }
        if *self.control.phase.borrow() != Phase::Serving {
            let text = "the container runtime stops; ask for a session in a moment";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Refusal::new(Reason::Stopping, status, text));
        }
        if !self.source.knows(kind, token) {
            return Err(unknown(Reason::Token));
        }
        let agreed = negotiate(kind, request.headers()).map_err(Refusal::from)?;
        let taken = self.source.take(kind, token);
        let session = taken.ok_or_else(|| unknown(Reason::Token))?;
        if let (Session::PortForward(ask), Protocol::SocketPorts(_)) = (&session, agreed.protocol)
            && !(1..=over_websocket::MOST_PORTS).contains(&ask.ports.len())
        {
            let text = format!(
                "{} ports: there are channels for between 1 and {}",
                ask.ports.len(),
                over_websocket::MOST_PORTS
            );
            return Err(Refusal::new(Reason::Ports, StatusCode::BAD_REQUEST, text));
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

#[cfg(test)]
mod tests;
