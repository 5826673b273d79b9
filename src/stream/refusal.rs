//! A request that becomes no session: its answer, in plain text, and how it is told.
//!
//! Each is counted by its reason. So many a minute are a line of the log at its usual level, since
//! whoever runs the node wants to see why a client stays outside; the rest are at `debug`, since
//! whoever reaches the port could fill a disk otherwise. The next line says how many those were.
//!
//! Invariant: no token is told, and what a client says is cut short.

use super::negotiate::Disagreed;
use crate::metrics::StreamingMetrics;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Lines of the log in each [`MINUTE`].
const LINES: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);
/// The most that a line has of what was said, in bytes.
const LONGEST: usize = 200;

/// What a request is answered.
pub type Answer = Response<Full<Bytes>>;

/// Why a request becomes no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its URL is none of a session's.
    Path,
    /// Its token is wrong, was used, or is over.
    Token,
    /// It is neither GET nor POST.
    Method,
    /// It asks for no upgrade, or its headers are wrong.
    Upgrade,
    /// It names no protocol that is spoken here.
    Protocol,
    /// More ports than there are channels, or none.
    Ports,
    /// The daemon stops.
    Stopping,
    /// It is no request.
    Request,
    /// Its client speaks no TLS, or shows no certificate that is good.
    Tls,
}

impl Reason {
    /// One word for the log and the metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Token => "token",
            Self::Method => "method",
            Self::Upgrade => "upgrade",
            Self::Protocol => "protocol",
            Self::Ports => "ports",
            Self::Stopping => "stopping",
            Self::Request => "request",
            Self::Tls => "tls",
        }
    }
}

/// A request that is refused.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The same in words, for the client.
    pub text: String,
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// With this status.
    #[must_use]
    pub fn new(reason: Reason, status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            status,
            headers: Vec::new(),
        }
    }

    /// The answer has this header, too.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What its client is answered.
    #[must_use]
    pub fn answer(self) -> Answer {
        let mut answer = Response::new(Full::new(Bytes::from(format!("{}\n", self.text))));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, text);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        answer
    }
}

impl From<Disagreed> for Refusal {
    fn from(disagreed: Disagreed) -> Self {
        let reason = match disagreed.status {
            StatusCode::FORBIDDEN => Reason::Protocol,
            _ => Reason::Upgrade,
        };
        let headers = disagreed.headers().collect();
        Self {
            reason,
            text: disagreed.reason,
            status: disagreed.status,
            headers,
        }
    }
}

/// Tells of refusals.
pub struct Refusals {
    metrics: StreamingMetrics,
    lines: Mutex<Lines>,
}

impl Refusals {
    /// They are counted there.
    #[must_use]
    pub fn new(metrics: StreamingMetrics) -> Self {
        let lines = Mutex::default();
        Self { metrics, lines }
    }

    /// A request of this client was refused.
    pub fn tell(&self, remote: Option<SocketAddr>, reason: Reason, why: impl Display) {
        self.metrics.refuse(reason.label());
        let remote = remote.map(|remote| remote.to_string());
        let (reason, why) = (reason.label(), short(&why.to_string()).to_owned());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.next(Instant::now()) {
            Some(0) => tracing::info!(remote, reason, why, "a request for a session was refused"),
            Some(untold) => tracing::info!(
                remote,
                reason,
                why,
                untold,
                "a request for a session was refused, and so were others before it"
            ),
            None => tracing::debug!(remote, reason, why, "a request for a session was refused"),
        }
    }
}

/// The beginning of what was said.
fn short(said: &str) -> &str {
    &said[..said.floor_char_boundary(LONGEST)]
}

/// The lines of one minute.
#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Lines {
    /// Whether there is a line for one more, and how many had none since the last one.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now - since >= MINUTE) {
            self.since = Some(now);
            self.told = 0;
        }
        if self.told < LINES {
            self.told += 1;
            return Some(std::mem::take(&mut self.untold));
        }
        self.untold += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_a_minute_and_the_next_one_says_how_many_had_none() {
        let (mut lines, begin) = (Lines::default(), Instant::now());
        let told = |lines: &mut Lines, at| {
            let all = (0..1000).map(|_| lines.next(begin + at));
            all.flatten().collect::<Vec<_>>()
        };
        assert_eq!(told(&mut lines, Duration::ZERO), [0; LINES as usize]);
        assert!(told(&mut lines, MINUTE - Duration::from_millis(1)).is_empty());
        let next = told(&mut lines, MINUTE);
        assert_eq!(
            (next.len(), next[0]),
            (LINES as usize, 2000 - u64::from(LINES))
        );
        assert_eq!(next[1..].iter().sum::<u64>(), 0);
    }

    #[test]
    fn what_a_client_says_is_cut_short() {
        assert_eq!(short("short"), "short");
        assert!(short(&"\u{e9}".repeat(10_000)).len() <= LONGEST);
    }
}
