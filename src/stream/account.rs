//! What is told of a session when it is over: one line in the log, and the figures.
//!
//! Invariant: once for each session, however it ends.

use super::end::End;
use super::watch::Traffic;
use crate::engine::session::Session;
use crate::metrics::Live;
use std::sync::Arc;
use std::time::Instant;
use tracing::{info, warn};

/// A session that is open.
pub struct Account {
    kind: &'static str,
    transport: &'static str,
    container: Option<String>,
    sandbox: Option<String>,
    traffic: Arc<Traffic>,
    live: Option<Live>,
    began: Instant,
}

impl Account {
    /// Of a session that begins now.
    #[must_use]
    pub fn open(session: &Session, transport: &'static str, live: Live) -> Self {
        let (container, sandbox) = match session {
            Session::Exec(exec) => (Some(exec.container.clone()), None),
            Session::Attach(attach) => (Some(attach.container.clone()), None),
            Session::PortForward(forward) => (None, Some(forward.sandbox.clone())),
        };
        Self {
            kind: session.kind().segment(),
            transport,
            container,
            sandbox,
            traffic: Arc::default(),
            live: Some(live),
            began: Instant::now(),
        }
    }

    /// Where its bytes are counted.
    #[must_use]
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// It is over.
    pub fn close(mut self, end: &End) {
        self.tell(end.label(), &end.to_string(), end.is_odd());
    }

    fn tell(&mut self, label: &'static str, reason: &str, odd: bool) {
        let Some(live) = self.live.take() else { return };
        let (received, sent) = self.traffic.totals();
        live.end(label, received, sent);
        let lasted = self.began.elapsed().as_secs_f64();
        let Self {
            kind, transport, ..
        } = self;
        let (container, sandbox) = (self.container.as_deref(), self.sandbox.as_deref());
        if odd {
            warn!(
                session = kind,
                transport,
                container.id = container,
                sandbox.id = sandbox,
                received,
                sent,
                seconds = lasted,
                end = label,
                reason,
                "session ended"
            );
        } else {
            info!(
                session = kind,
                transport,
                container.id = container,
                sandbox.id = sandbox,
                received,
                sent,
                seconds = lasted,
                end = label,
                reason,
                "session ended"
            );
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.tell("aborted", "the session was given up", true);
    }
}
