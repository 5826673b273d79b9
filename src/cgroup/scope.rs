//! The port to whoever makes scopes: systemd.

use crate::error::{Error, Kind};
use async_trait::async_trait;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Makes and ends pods' scopes. A call returns when the cgroup is there, or gone.
#[async_trait]
pub trait Scopes: Send + Sync {
    /// Makes a delegated scope of a process; one of this name that is there already, is taken.
    ///
    /// # Errors
    /// Where systemd cannot be reached, refuses, or fails.
    async fn start(&self, order: &ScopeOrder) -> Result<(), ScopeError>;

    /// Ends a scope, in which no process is left. One that is not there has ended.
    ///
    /// # Errors
    /// As [`Scopes::start`].
    async fn stop(&self, unit: &str) -> Result<(), ScopeError>;
}

/// A scope that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeOrder {
    /// Its unit's name.
    pub unit: String,
    /// The slice that it is to be in.
    pub slice: String,
    /// What it is, for a person.
    pub description: String,
    /// The process that it begins with.
    pub pid: i32,
}

/// Why a scope could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// There is nobody at the socket, or the connection was lost over and over.
    #[error(
        "{operation} {unit}: systemd does not answer at {}: see `systemctl status`, or take `driver = \"cgroupfs\"` below `[cgroup]` where this host has no systemd",
        socket.display()
    )]
    Unreachable {
        /// What was attempted.
        operation: &'static str,
        /// With which unit.
        unit: String,
        /// Where.
        socket: PathBuf,
        /// The last failure.
        #[source]
        source: io::Error,
    },
    /// It takes too long.
    #[error(
        "{operation} {unit}: systemd was not done after {limit:?}: `systemctl list-jobs` shows what it waits for"
    )]
    Slow {
        /// What was attempted.
        operation: &'static str,
        /// With which unit.
        unit: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// systemd says no.
    #[error("{operation} {unit}: systemd refuses: {message} ({name})")]
    Refused {
        /// What was attempted.
        operation: &'static str,
        /// With which unit.
        unit: String,
        /// The error's name.
        name: String,
        /// The error's text.
        message: String,
    },
    /// systemd tried and failed.
    #[error(
        "{operation} {unit}: systemd's job ended as {result:?}: see `journalctl --unit {unit}`"
    )]
    Job {
        /// What was attempted.
        operation: &'static str,
        /// With which unit.
        unit: String,
        /// How it ended.
        result: String,
    },
}

impl ScopeError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } => Kind::Unavailable,
            Self::Refused { .. } | Self::Job { .. } => Kind::Internal,
        }
    }
}

impl From<ScopeError> for Error {
    fn from(error: ScopeError) -> Self {
        let wider = Error::new(error.kind(), error.to_string());
        match error {
            ScopeError::Unreachable { source, .. } => wider.caused_by(source),
            _ => wider,
        }
    }
}
