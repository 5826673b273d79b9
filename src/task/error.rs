//! Why something could not be done to a container's processes.

use crate::error::{Error, Kind, Sentinel};
use corten_shim::api::{Failure, FailureKind};
use std::path::PathBuf;
use std::time::Duration;

/// What a shim could not do, or why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The program cannot be started.
    #[error("start {program}: is Corten installed completely?", program = program.display())]
    Spawn {
        /// Which program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The shim was asked and cannot do it.
    #[error("{verb}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// What it says.
        #[source]
        failure: Failure,
    },
    /// The socket to the shim failed.
    #[error("{verb}: speak with the shim")]
    Socket {
        /// What was asked.
        verb: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The shim went away instead of answering.
    #[error("{verb}: the shim ended without an answer; its last words are in the daemon's log")]
    Gone {
        /// What was asked.
        verb: &'static str,
    },
    /// The shim did not answer in time.
    #[error(
        "{verb}: the shim did not answer within {limit:?}; look for a dead mount or a failing disk"
    )]
    Slow {
        /// What was asked.
        verb: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// The shim answered something else.
    #[error(
        "{verb}: the shim's answer does not fit the question; daemon and shim are of different versions"
    )]
    Protocol {
        /// What was asked.
        verb: &'static str,
    },
    /// The container's init could not be signalled.
    #[error("send signal {signal} to the container's init")]
    Signal {
        /// Its number.
        signal: i32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing listens at a port of the pod, or it cannot be reached.
    #[error("{}", undialled(*port, source))]
    Dial {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The container's init has ended.
    #[error("{verb}: the container's first process has ended")]
    Ended {
        /// What was asked.
        verb: &'static str,
    },
}

impl TaskError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { failure, .. } => match failure.kind {
                FailureKind::State => Kind::FailedPrecondition,
                FailureKind::ImageVolume => Kind::Sentinel(Sentinel::ImageVolumeMountFailed),
                FailureKind::Invalid
                | FailureKind::Start
                | FailureKind::User
                | FailureKind::Mount
                | FailureKind::System
                | FailureKind::Version => Kind::Internal,
            },
            Self::Ended { .. } => Kind::FailedPrecondition,
            Self::Dial { .. } => Kind::Unavailable,
            Self::Spawn { .. }
            | Self::Socket { .. }
            | Self::Gone { .. }
            | Self::Slow { .. }
            | Self::Protocol { .. }
            | Self::Signal { .. } => Kind::Internal,
        }
    }
}

/// Gives an answer this long.
pub async fn within<T>(
    limit: Duration,
    verb: &'static str,
    answer: impl Future<Output = Result<T, TaskError>>,
) -> Result<T, TaskError> {
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or(Err(TaskError::Slow { verb, limit }))
}

/// In words for who wants the port.
fn undialled(port: u16, source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            format!("nothing listens on 127.0.0.1:{port} or [::1]:{port} in the pod")
        }
        _ => format!("connect to 127.0.0.1:{port} or [::1]:{port} in the pod"),
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        let kind = error.kind();
        match error {
            // What a pod does is no affair of a shim's.
            TaskError::Dial { port, source } => {
                Error::new(kind, undialled(port, &source)).caused_by(source)
            }
            error => Error::new(kind, "run the shim").caused_by(error),
        }
    }
}
