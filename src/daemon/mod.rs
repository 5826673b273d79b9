//! The process: what is built at its start, what it does until it is told to end, and how it ends.
//!
//! ```text
//! lock root → cgroups → adapters → Engine (recovers) → streaming address, socket → READY
//!           → serve, reload at SIGHUP → SIGTERM: no new calls and sessions → drain both → exit;
//!           containers stay
//! ```
//!
//! Invariant: nothing of a container's ends with the daemon.

mod build;
mod directories;
mod home;
mod lock;
mod notify;
mod open_files;
mod streaming;
mod telling;

use crate::admin;
use crate::config::Live;
use crate::cri;
use crate::error::{Context, Error, Kind, Result};
use crate::log::LogFilter;
use crate::model::host::HostFacts;
use build::Built;
use lock::RootLock;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use streaming::Streaming;
use telling::Telling;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// How long calls that run may take to their end when the daemon is told to stop. systemd's own
/// limit is longer.
const DRAIN: Duration = Duration::from_secs(10);

/// A daemon that is ready to serve.
pub struct Daemon {
    live: Arc<Live>,
    log: Arc<LogFilter>,
    host: HostFacts,
    built: Built,
    telling: Telling,
    signals: Option<Signals>,
    _lock: RootLock,
}

impl Daemon {
    /// Takes the root, makes the adapters, and takes up what an earlier daemon left.
    ///
    /// # Errors
    /// What a daemon cannot be without.
    pub async fn build(live: Live, log: LogFilter) -> Result<Self> {
        let signals = Some(Signals::listen()?);
        let config = live.get();
        if let Err(error) = open_files::raise() {
            warn!(%error, "the limit of open files stays low");
        }
        let lock = RootLock::take(&config.root)?;
        directories::close(&config)?;
        let telling = Telling::begin(config.metrics).await;
        let mut node = build::node(&config)?;
        build::try_out(&config, &mut node.host).await;
        let host = node.host.clone();
        let built = build::engine(&config, node, telling.metrics()).await?;
        Ok(Self {
            live: Arc::new(live),
            log: Arc::new(log),
            host,
            built,
            telling,
            signals,
            _lock: lock,
        })
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Where the socket is taken, or fails.
    pub async fn serve(mut self) -> Result<()> {
        let signals = self.signals.take().map_or_else(Signals::listen, Ok)?;
        let config = self.live.get();
        let engine = Arc::clone(&self.built.engine);
        let streaming = Streaming::begin(&config.streaming, engine, self.telling.metrics()).await;
        let listener = cri::server::listen(&config.endpoint)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(cri::server::serve(listener, self.routes(), async {
            let _ = stopped.await;
        }));
        let watchdog = tokio::spawn(notify::watchdog(config.endpoint.clone()));
        info!(endpoint = %config.endpoint.display(), "ready");
        self.telling.metrics().set_ready(true);
        notify::tell(&[NotifyState::Ready]);
        let told = self.until_told(signals, &streaming).await;
        info!(signal = told, "stopping");
        notify::tell(&[NotifyState::Stopping]);
        self.telling.metrics().set_ready(false);
        watchdog.abort();
        self.built.engine.end_following();
        let _ = stop.send(());
        let time = self.live.get().streaming.drain;
        let (ended, ()) = tokio::join!(drain(served), streaming.drain(time));
        info!("stopped; containers run on");
        ended
    }

    fn routes(&self) -> cri::Routes {
        let engine = &self.built.engine;
        let admin = admin::Service::new(admin::About {
            engine: Arc::clone(engine),
            live: Arc::clone(&self.live),
            log: Arc::clone(&self.log),
            host: self.host.clone(),
        });
        admin.beside(cri::routes(engine))
    }

    /// Waits for the signal to end, which it gives, and reloads at each SIGHUP on the way.
    async fn until_told(&self, mut signals: Signals, streaming: &Streaming) -> &'static str {
        loop {
            tokio::select! {
                _ = signals.hangup.recv() => {
                    self.reload();
                    streaming.take(&self.live.get().streaming);
                }
                _ = signals.terminate.recv() => return "SIGTERM",
                _ = signals.interrupt.recv() => return "SIGINT",
            }
        }
    }

    /// What can change does; a configuration with a mistake changes nothing.
    fn reload(&self) {
        notify::reloading();
        match self.live.reload() {
            Ok(changes) => self.take(&changes),
            Err(e) => error!(error = %crate::error::chain(&e), "the configuration is not reloaded"),
        }
        notify::tell(&[NotifyState::Ready]);
    }

    fn take(&self, changes: &crate::config::Changes) {
        let config = self.live.get();
        if let Err(e) = self.log.set(&config.log) {
            error!(error = %e.chain(), "the log's filter is not changed");
        }
        self.built.registry.set(build::registries(&config));
        let images = self.built.engine.images();
        images.set_pinned(config.images.pinned.clone());
        images.set_policy(build::image_policy(&config));
        info!(changed = ?changes.applied, "reloaded");
        if !changes.waiting.is_empty() {
            warn!(keys = ?changes.waiting, "changed, and takes effect at the next start");
        }
    }
}

/// What the daemon listens for. From before it takes up its objects: a signal that comes while it
/// does must neither end it half way nor be lost.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            hangup: listen_for(SignalKind::hangup())?,
            terminate: listen_for(SignalKind::terminate())?,
            interrupt: listen_for(SignalKind::interrupt())?,
        })
    }
}

fn listen_for(kind: SignalKind) -> Result<Signal> {
    signal(kind).context(Kind::Internal, || "listen for signals".to_owned())
}

/// Waits for calls that run, but not for ever: what was begun is on record, and the next daemon
/// goes on from there.
async fn drain(served: tokio::task::JoinHandle<Result<()>>) -> Result<()> {
    match tokio::time::timeout(DRAIN, served).await {
        Ok(Ok(result)) => result,
        Ok(Err(e)) => Err(Error::internal("the server ended early").caused_by(e)),
        Err(_) => {
            warn!("calls still ran after {DRAIN:?}; they are left");
            Ok(())
        }
    }
}
