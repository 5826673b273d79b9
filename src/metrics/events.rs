//! The figures of those who follow events of pods and containers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The figures of those who follow events. All copies count together.
#[derive(Debug, Clone, Default)]
pub struct EventMetrics {
    readers: Gauge,
    dropped: Counter,
}

impl EventMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "container_event_readers",
            "Clients that follow events of pods and containers (GetContainerEvents)",
            self.readers.clone(),
        );
        registry.register(
            "container_event_readers_dropped",
            "Clients that took events so slowly that their stream was ended",
            self.dropped.clone(),
        );
    }

    /// A client follows from now on.
    pub fn came(&self) {
        self.readers.inc();
    }

    /// A client that followed does not any more.
    pub fn went(&self) {
        self.readers.dec();
    }

    /// A client was too slow; it does not follow any more.
    pub fn dropped(&self) {
        self.readers.dec();
        self.dropped.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;

    #[test]
    fn who_was_too_slow_is_counted_and_follows_no_more() {
        let metrics = Metrics::default();
        let events = metrics.events();
        for _ in 0..3 {
            events.came();
        }
        events.went();
        events.dropped();
        let text = metrics.text();
        for line in [
            "corten_container_event_readers 1",
            "corten_container_event_readers_dropped_total 1",
        ] {
            assert!(
                text.contains(&format!("{line}\n")),
                "{line} is not in\n{text}"
            );
        }
    }
}
