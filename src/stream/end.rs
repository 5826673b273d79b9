//! How a session ends, and how its client is told: as `metav1.Status` where the protocol has it, else
//! as plain text.
//!
//! Invariant: pure, and every end has a word for the metric, a sentence for the log and a status.

use crate::error::Error;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How a session ended.
#[derive(Debug, Clone)]
pub enum End {
    /// The process ended with this code.
    Exited(i32),
    /// The container that was attached to ended.
    Gone,
    /// The client's stdin ended, and with that an attach; the container goes on.
    Detached,
    /// All forwarded connections are over.
    Done,
    /// The pod whose ports were forwarded is not ready any more.
    PodGone,
    /// The client closed, or has gone.
    ClientGone,
    /// The connection to the client broke.
    ClientLost(String),
    /// The client did not take what the container said.
    TooSlow,
    /// Nothing flowed for this long.
    Idle(Duration),
    /// The client did not open the streams that it asked for within this time.
    NoStreams(Duration),
    /// The client does not speak the protocol.
    Wrong(String),
    /// What was asked for failed.
    Failed(Error),
    /// The daemon stops.
    Stopping,
}

impl End {
    /// One word for the metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Gone => "container_ended",
            Self::Detached => "detached",
            Self::Done => "done",
            Self::PodGone => "pod_ended",
            Self::ClientGone => "client_gone",
            Self::ClientLost(_) => "client_lost",
            Self::TooSlow => "too_slow",
            Self::Idle(_) => "idle",
            Self::NoStreams(_) => "no_streams",
            Self::Wrong(_) => "protocol_error",
            Self::Failed(_) => "failed",
            Self::Stopping => "stopping",
        }
    }

    /// The session was cut short by this side: whoever runs the node may want to know. A connection
    /// that broke is what an interrupted client often leaves.
    #[must_use]
    pub fn is_odd(&self) -> bool {
        match self {
            Self::Exited(_)
            | Self::Gone
            | Self::Detached
            | Self::Done
            | Self::PodGone
            | Self::ClientGone
            | Self::ClientLost(_)
            | Self::Stopping => false,
            Self::TooSlow
            | Self::Idle(_)
            | Self::NoStreams(_)
            | Self::Wrong(_)
            | Self::Failed(_) => true,
        }
    }

    /// Whether the session was over before its client had all that there was for it: nothing more is
    /// waited for then but goodbyes.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        match self {
            Self::Exited(_)
            | Self::Gone
            | Self::Detached
            | Self::Done
            | Self::PodGone
            | Self::Failed(_) => false,
            Self::ClientGone
            | Self::ClientLost(_)
            | Self::TooSlow
            | Self::Idle(_)
            | Self::NoStreams(_)
            | Self::Wrong(_)
            | Self::Stopping => true,
        }
    }

    fn status(&self) -> Status {
        let failure = |reason, code| Status {
            status: "Failure",
            message: self.to_string(),
            reason,
            details: None,
            code,
        };
        match self {
            Self::Exited(0) | Self::Gone | Self::Detached | Self::Done | Self::PodGone => Status {
                status: "Success",
                message: String::new(),
                reason: "",
                details: None,
                code: 0,
            },
            Self::Exited(code) => Status {
                details: Some(Details::exit_code(*code)),
                ..failure("NonZeroExitCode", 0)
            },
            Self::Idle(_) | Self::NoStreams(_) => failure("Timeout", 504),
            Self::TooSlow => failure("TooSlow", 0),
            Self::Wrong(_) => failure("BadRequest", 400),
            Self::Stopping => failure("ServiceUnavailable", 503),
            Self::Failed(_) | Self::ClientGone | Self::ClientLost(_) => {
                failure("InternalError", 500)
            }
        }
    }

    /// What is written to the error stream; nothing where the protocol has no words for it.
    #[must_use]
    pub fn told(&self, form: Form) -> Vec<u8> {
        let status = self.status();
        match form {
            Form::Json => serde_json::to_vec(&status).expect("strings and numbers"),
            Form::Text => status.message.into_bytes(),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "command terminated with exit code {code}"),
            Self::Gone => write!(f, "the container has ended"),
            Self::Detached => write!(f, "the client's stdin has ended; the container goes on"),
            Self::Done => write!(f, "every forwarded connection is over"),
            Self::PodGone => write!(f, "the pod is not ready any more"),
            Self::ClientGone => write!(f, "the client has gone"),
            Self::ClientLost(why) => write!(f, "the connection to the client broke: {why}"),
            Self::TooSlow => write!(
                f,
                "detached: the container wrote faster than this client has read"
            ),
            Self::Idle(time) => write!(
                f,
                "nothing was sent in either direction for {time:?}, which is `[streaming] idle_timeout`"
            ),
            Self::NoStreams(time) => write!(
                f,
                "the client did not open its streams within {time:?}, which is `[streaming] creation_timeout`"
            ),
            Self::Wrong(why) => write!(f, "the client does not speak the protocol: {why}"),
            Self::Failed(error) => f.write_str(&error.chain()),
            Self::Stopping => write!(
                f,
                "the container runtime stops, and the time that it leaves to sessions (`[streaming] drain`) is over; try again in a moment"
            ),
        }
    }
}

/// How the error stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A `metav1.Status` (v4 and later).
    Json,
    /// A sentence, and nothing after a success (before v4).
    Text,
}

/// `metav1.Status`, as far as clients read it.
#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "is_zero")]
    code: u16,
}

#[derive(Debug, Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Debug, Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

impl Details {
    fn exit_code(code: i32) -> Self {
        Self {
            causes: [Cause {
                reason: "ExitCode",
                message: code.to_string(),
            }],
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(code: &u16) -> bool {
    *code == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(end: &End) -> serde_json::Value {
        serde_json::from_slice(&end.told(Form::Json)).unwrap()
    }

    #[test]
    fn a_success_is_one_word_or_nothing() {
        for end in [End::Exited(0), End::Gone, End::Detached, End::Done] {
            assert_eq!(end.told(Form::Json), br#"{"status":"Success"}"#);
            assert_eq!(end.told(Form::Text), b"");
        }
    }

    #[test]
    fn an_exit_code_is_the_cause() {
        let status = json(&End::Exited(137));
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0]["reason"], "ExitCode");
        assert_eq!(status["details"]["causes"][0]["message"], "137");
        let text = End::Exited(137).told(Form::Text);
        assert_eq!(text, b"command terminated with exit code 137");
    }

    #[test]
    fn other_failures_say_what_happened() {
        let cause = Error::internal("open /dev/ptmx").caused_by("no space");
        let status = json(&End::Failed(cause));
        assert_eq!(status["reason"], "InternalError");
        assert_eq!(status["message"], "open /dev/ptmx: no space");
        for (end, key) in [
            (End::Idle(Duration::from_secs(7)), "idle_timeout"),
            (End::NoStreams(Duration::from_secs(7)), "creation_timeout"),
        ] {
            let status = json(&end);
            let message = status["message"].as_str().unwrap();
            assert!(message.contains("7s") && message.contains(key), "{message}");
        }
        let stopping = End::Stopping.to_string();
        assert!(stopping.contains("`[streaming] drain`"), "{stopping}");
        assert_eq!(json(&End::TooSlow)["reason"], "TooSlow");
    }
}
