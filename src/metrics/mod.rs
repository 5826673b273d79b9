//! What is counted, and the small HTTP server that tells it: `/metrics` for Prometheus, `/healthz`
//! and `/readyz` for whoever watches the node.
//!
//! Other rooms get the part that is theirs and count; nobody reads a figure to decide anything.
//!
//! Invariant: nothing is asked of any other room when the figures are told.

mod server;
mod streaming;

pub use server::{listen, serve};
pub use streaming::{Live, StreamingMetrics};

use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicBool, Ordering};

/// All figures of the daemon.
pub struct Metrics {
    registry: Registry,
    streaming: StreamingMetrics,
    ready: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("corten");
        let streaming = StreamingMetrics::default();
        streaming.register(&mut registry);
        Self {
            registry,
            streaming,
            ready: AtomicBool::new(false),
        }
    }
}

impl Metrics {
    /// The part of the streaming server.
    #[must_use]
    pub fn streaming(&self) -> StreamingMetrics {
        self.streaming.clone()
    }

    /// Says whether the daemon takes calls.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// The figures, as Prometheus reads them.
    fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String takes all");
        text
    }
}
