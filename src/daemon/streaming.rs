//! The streaming server as a part of the daemon: what it is told at the start, at a reload, and at
//! the end.
//!
//! Invariant: a daemon that cannot have one serves all the same, and answers Exec, Attach and
//! PortForward with the reason.

use crate::config::StreamingConfig;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::stream::{Control, Files, Server, Settings, Times};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// A streaming server that runs.
pub struct Streaming {
    engine: Arc<Engine>,
    control: Control,
    served: JoinHandle<()>,
}

impl Streaming {
    /// Begins to serve; `None`, with the reason in the log, where that is not possible.
    pub async fn begin(
        config: &StreamingConfig,
        engine: Arc<Engine>,
        metrics: &Metrics,
    ) -> Option<Self> {
        let server = Server::bind(settings(config)).await;
        let server = server.inspect_err(told).ok()?;
        let (base, control) = (server.base().to_owned(), server.control());
        info!(address = base, "streaming");
        if config
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client_ca.is_some())
        {
            warn!(
                "[streaming] client_ca is set: a kubelet shows no certificate, so kubectl does not get in through it"
            );
        }
        engine.set_streaming_base(Some(base));
        let (source, figures) = (Arc::clone(&engine), metrics.streaming());
        let served = tokio::spawn(async move {
            server.serve(source, figures).await;
        });
        Some(Self {
            engine,
            control,
            served,
        })
    }

    /// Takes what of a new configuration can change.
    pub fn take(&self, config: &StreamingConfig) {
        self.control.set_times(times(config));
    }

    /// Refuses new sessions, and lets those that are open go on for so long.
    pub async fn drain(&self, time: Duration) {
        self.engine.set_streaming_base(None);
        match self.control.drain(time).await {
            0 => {}
            left => warn!(left, "sessions still ran after {time:?}; they were ended"),
        }
        self.served.abort();
    }
}

fn told(error: &crate::error::Error) {
    error!(error = %error.chain(), "exec, attach and port-forward are not served");
}

fn settings(config: &StreamingConfig) -> Settings {
    Settings {
        address: config.address,
        tls: config.tls.clone().map(|tls| Files {
            cert: tls.cert,
            key: tls.key,
            client_ca: tls.client_ca,
        }),
        times: times(config),
    }
}

fn times(config: &StreamingConfig) -> Times {
    Times {
        idle: config.idle_timeout,
        creation: config.creation_timeout,
    }
}
