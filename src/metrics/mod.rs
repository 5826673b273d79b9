//! What is counted, and the small HTTP server that tells it: `/metrics` for Prometheus, `/healthz`
//! and `/readyz` for whoever watches the node.
//!
//! Other rooms get the part that is theirs and count; nobody reads a figure to decide anything.
//!
//! Invariant: nothing is asked of any other room when the figures are told.

mod containers;
mod events;
mod health;
mod server;
mod streaming;

pub use containers::ContainerMetrics;
pub use events::EventMetrics;
pub use health::{HealthMetrics, LiveHealth};
pub use server::{listen, serve};
pub use streaming::{Listening, Live, Stalls, StreamingMetrics};

use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicBool, Ordering};

/// All figures of the daemon.
pub struct Metrics {
    registry: Registry,
    streaming: StreamingMetrics,
    health: HealthMetrics,
    containers: ContainerMetrics,
    events: EventMetrics,
    ready: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("corten");
        let streaming = StreamingMetrics::default();
        streaming.register(&mut registry);
        let health = HealthMetrics::default();
        health.register(&mut registry);
        let containers = ContainerMetrics::default();
        containers.register(&mut registry);
        let events = EventMetrics::default();
        events.register(&mut registry);
        Self {
            registry,
            streaming,
            health,
            containers,
            events,
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

    /// The part of who checks containers' health.
    #[must_use]
    pub fn health(&self) -> HealthMetrics {
        self.health.clone()
    }

    /// The part of who makes containers.
    #[must_use]
    pub fn containers(&self) -> ContainerMetrics {
        self.containers.clone()
    }

    /// The part of who tells events.
    #[must_use]
    pub fn events(&self) -> EventMetrics {
        self.events.clone()
    }

    /// Says whether the daemon takes calls.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// The figures, as Prometheus reads them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String takes all");
        text
    }
}
