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
            traffic: Arc::new(Traffic::counting(live.stalls())),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::session::PortForwardSession;
    use crate::metrics::Metrics;
    use std::io::{self, Write};
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged and counted of a session of 3 bytes in and 5 out that ends so.
    fn told(end: impl FnOnce(Account)) -> (Vec<serde_json::Value>, String) {
        let (log, metrics) = (Log::default(), Metrics::default());
        let session = Session::PortForward(PortForwardSession {
            sandbox: "the pod".to_owned(),
            ports: Vec::new(),
        });
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let live = metrics.streaming().start("portforward", "spdy");
            let account = Account::open(&session, "spdy", live);
            account.traffic().receive(3);
            account.traffic().send(5);
            end(account);
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        (lines.collect(), metrics.text())
    }

    #[test]
    fn an_end_is_told_once_with_bytes_time_and_reason() {
        let (lines, metrics) = told(|account| account.close(&End::Stopping));
        let [line] = &lines[..] else {
            panic!("{lines:?}");
        };
        let fields = &line["fields"];
        assert_eq!(
            (&fields["received"], &fields["sent"]),
            (&3.into(), &5.into())
        );
        assert!(fields["seconds"].is_f64(), "{fields}");
        assert_eq!(
            (&fields["end"], &line["level"]),
            (&"stopping".into(), &"INFO".into())
        );
        assert!(fields["reason"].as_str().unwrap().contains("runtime stops"));
        assert_eq!(fields["sandbox.id"], "the pod");
        assert!(metrics.contains("reason=\"stopping\"} 1\n"), "{metrics}");
    }

    #[test]
    fn who_is_given_up_is_told_of_too() {
        let (lines, metrics) = told(drop);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (&lines[0]["fields"]["end"], &lines[0]["level"]),
            (&"aborted".into(), &"WARN".into())
        );
        assert!(metrics.contains("reason=\"aborted\"} 1\n"), "{metrics}");
    }
}
