//! The streaming server as a part of the daemon: what it is told at the start, at a reload, and at
//! the end.
//!
//! An address that cannot be used does not keep the daemon from starting: pods need it more than
//! sessions do, and a port or a certificate may be there a moment later. It is told once as an error,
//! with what a person can do, and tried again for as long as the daemon runs.
//!
//! Invariant: a daemon that has no streaming server serves all the same, and answers Exec, Attach and
//! PortForward with the reason.

use crate::config::StreamingConfig;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::metrics::{Listening, Metrics, StreamingMetrics};
use crate::stream::{Control, Files, Server, Settings, Times};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

/// The pause after the first try to take the address. It doubles after each.
const PAUSE: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A streaming server that runs, or is to run as soon as it can.
pub struct Streaming {
    place: Place,
    control: Control,
    served: JoinHandle<()>,
}

/// Where it is known whether there is a server.
#[derive(Clone)]
struct Place {
    engine: Arc<Engine>,
    metrics: StreamingMetrics,
}

impl Streaming {
    /// Begins to serve, at once or when the address can be used.
    pub async fn begin(config: &StreamingConfig, engine: Arc<Engine>, metrics: &Metrics) -> Self {
        let control = Control::new(times(config));
        let settings = settings(config, control.clone());
        let metrics = metrics.streaming();
        let place = Place { engine, metrics };
        let first = Server::bind(settings.clone()).await;
        if let Ok(server) = &first {
            place.open(server);
        }
        if config
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client_ca.is_some())
        {
            warn!(
                "[streaming] client_ca is set: a kubelet shows no certificate, so kubectl does not get in through it"
            );
        }
        let serving = serve(first, settings, place.clone());
        Self {
            place,
            control,
            served: tokio::spawn(serving),
        }
    }

    /// Takes what of a new configuration can change.
    pub fn take(&self, config: &StreamingConfig) {
        self.control.set_times(times(config));
    }

    /// Refuses new sessions, and lets those that are open go on for so long.
    pub async fn drain(&self, time: Duration) {
        let (began, open) = (Instant::now(), self.control.live());
        self.place
            .close("the daemon stops; try again in a moment".to_owned());
        if open > 0 {
            info!(
                sessions = open,
                "stopping: sessions go on for up to {time:?}, which is `[streaming] drain`"
            );
        }
        let left = self.control.drain(time).await;
        let seconds = began.elapsed().as_secs_f64();
        match left {
            0 if open == 0 => {}
            0 => info!(seconds, "every session has ended by itself"),
            left => warn!(
                left,
                seconds,
                "sessions were still open after {time:?}, which is `[streaming] drain`; they were ended"
            ),
        }
        self.served.abort();
    }
}

impl Place {
    fn open(&self, server: &Server) {
        info!(address = server.base(), "streaming");
        self.engine.set_streaming_base(Ok(server.base().to_owned()));
        self.metrics.listen(Listening::Yes);
    }

    fn close(&self, why: String) {
        self.engine.set_streaming_base(Err(why));
        self.metrics.listen(Listening::No);
    }
}

async fn serve(first: Result<Server>, settings: Settings, place: Place) {
    let server = match first {
        Ok(server) => server,
        Err(error) => {
            place.close(error.chain());
            told(&error);
            let server = bound(&settings, &place).await;
            place.open(&server);
            server
        }
    };
    let Place { engine, metrics } = place;
    server.serve(engine, metrics).await;
}

/// Tries again until the address can be used.
async fn bound(settings: &Settings, place: &Place) -> Server {
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        match Server::bind(settings.clone()).await {
            Ok(server) => return server,
            Err(error) => {
                debug!(error = %error.chain(), "exec, attach and port-forward are still not served");
                place.close(error.chain());
            }
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

fn told(error: &Error) {
    error!(
        error = %error.chain(),
        "exec, attach and port-forward are not served; this is tried again every {LONGEST_PAUSE:?} or sooner"
    );
}

fn settings(config: &StreamingConfig, control: Control) -> Settings {
    Settings {
        address: config.address,
        tls: config.tls.clone().map(|tls| Files {
            cert: tls.cert,
            key: tls.key,
            client_ca: tls.client_ca,
        }),
        control,
    }
}

fn times(config: &StreamingConfig) -> Times {
    Times {
        idle: config.idle_timeout,
        creation: config.creation_timeout,
    }
}
