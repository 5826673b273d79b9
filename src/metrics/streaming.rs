//! The figures of exec, attach and port-forward.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Which sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sessions {
    kind: &'static str,
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ends {
    kind: &'static str,
    transport: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bytes {
    kind: &'static str,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusals {
    reason: &'static str,
}

/// The figures of exec, attach and port-forward. All copies count together.
#[derive(Debug, Clone, Default)]
pub struct StreamingMetrics {
    started: Family<Sessions, Counter>,
    ended: Family<Ends, Counter>,
    live: Family<Sessions, Gauge>,
    refused: Family<Refusals, Counter>,
    listening: Gauge,
    bytes: Family<Bytes, Counter>,
    stalled: Family<Sessions, Counter>,
}

/// Counts forwarded connections that were reset because their pod did not read them while others of
/// their session waited.
#[derive(Debug, Clone, Default)]
pub struct Stalls(Option<(Family<Sessions, Counter>, Sessions)>);

impl Stalls {
    /// One more.
    pub fn add(&self) {
        if let Some((stalled, sessions)) = &self.0 {
            stalled.get_or_create(sessions).inc();
        }
    }
}

impl StreamingMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "streaming_sessions_started",
            "Sessions of exec, attach and port-forward that began",
            self.started.clone(),
        );
        registry.register(
            "streaming_sessions_ended",
            "Sessions that ended, by reason",
            self.ended.clone(),
        );
        registry.register(
            "streaming_sessions",
            "Sessions that are open",
            self.live.clone(),
        );
        registry.register(
            "streaming_refused",
            "Requests that became no session, by reason",
            self.refused.clone(),
        );
        registry.register(
            "streaming_listening",
            "1 while sessions can begin, 0 while `[streaming] address` cannot be used or the daemon stops",
            self.listening.clone(),
        );
        registry.register(
            "streaming_bytes",
            "Bytes of sessions that ended, from clients (in) and to them (out)",
            self.bytes.clone(),
        );
        registry.register(
            "streaming_connections_stalled",
            "Forwarded connections that were reset: their pod did not read, and others waited behind them",
            self.stalled.clone(),
        );
    }

    /// A request became no session.
    pub fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&Refusals { reason }).inc();
    }

    /// Sessions can begin from now on, or cannot.
    pub fn listen(&self, can_begin: Listening) {
        self.listening.set(match can_begin {
            Listening::Yes => 1,
            Listening::No => 0,
        });
    }

    /// A session of this kind begins, over this transport.
    #[must_use]
    pub fn start(&self, kind: &'static str, transport: &'static str) -> Live {
        let sessions = Sessions { kind, transport };
        self.started.get_or_create(&sessions).inc();
        self.live.get_or_create(&sessions).inc();
        Live {
            metrics: self.clone(),
            sessions,
        }
    }
}

/// Whether sessions can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// They can.
    Yes,
    /// They cannot.
    No,
}

/// A session that is open; dropped it is not any more.
#[derive(Debug)]
pub struct Live {
    metrics: StreamingMetrics,
    sessions: Sessions,
}

impl Live {
    /// Where connections of this session are counted that held up others.
    #[must_use]
    pub fn stalls(&self) -> Stalls {
        Stalls(Some((self.metrics.stalled.clone(), self.sessions.clone())))
    }

    /// It ended for this reason, after so many bytes from its client and to it.
    pub fn end(self, reason: &'static str, received: u64, sent: u64) {
        let Sessions { kind, transport } = self.sessions;
        let ends = Ends {
            kind,
            transport,
            reason,
        };
        self.metrics.ended.get_or_create(&ends).inc();
        for (direction, bytes) in [("in", received), ("out", sent)] {
            let labels = Bytes { kind, direction };
            self.metrics.bytes.get_or_create(&labels).inc_by(bytes);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.metrics.live.get_or_create(&self.sessions).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;

    #[test]
    fn refusals_are_counted_by_reason_and_whether_there_is_a_server() {
        let metrics = Metrics::default();
        let streaming = metrics.streaming();
        let listening = "corten_streaming_listening";
        assert!(metrics.text().contains(&format!("{listening} 0\n")));
        streaming.listen(super::Listening::Yes);
        streaming.refuse("token");
        streaming.refuse("token");
        let text = metrics.text();
        assert!(text.contains(&format!("{listening} 1\n")), "{text}");
        let refused = "corten_streaming_refused_total{reason=\"token\"} 2\n";
        assert!(text.contains(refused), "{text}");
    }

    #[test]
    fn a_session_is_counted_from_its_begin_to_its_end() {
        let metrics = Metrics::default();
        let live = metrics.streaming().start("exec", "spdy");
        let open = "corten_streaming_sessions{kind=\"exec\",transport=\"spdy\"}";
        assert!(metrics.text().contains(&format!("{open} 1\n")));
        live.end("exited", 3, 5);
        let text = metrics.text();
        for line in [
            format!("{open} 0"),
            "corten_streaming_sessions_started_total{kind=\"exec\",transport=\"spdy\"} 1".into(),
            "corten_streaming_sessions_ended_total{kind=\"exec\",transport=\"spdy\",reason=\"exited\"} 1".into(),
            "corten_streaming_bytes_total{kind=\"exec\",direction=\"in\"} 3".into(),
            "corten_streaming_bytes_total{kind=\"exec\",direction=\"out\"} 5".into(),
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
        }
        drop(metrics.streaming().start("exec", "spdy"));
        assert!(metrics.text().contains(&format!("{open} 0\n")));
    }
}
