//! Asking the daemon over its socket.
//!
//! Invariant: stdout has only what was asked for; progress and trouble are on stderr.

use crate::error::{Error, Kind, Result};
use clap::ValueEnum;
use corten_proto::admin::v1::admin_client::AdminClient;
use std::io::{ErrorKind, Write};
use std::path::Path;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The form of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a person.
    #[default]
    Table,
    /// For a program.
    Json,
}

/// A connection to the daemon on this socket.
///
/// # Errors
/// `Unavailable`, with what a person can do.
pub async fn connect(endpoint: &Path) -> Result<AdminClient<Channel>> {
    let client = AdminClient::connect(format!("unix://{}", endpoint.display())).await;
    client.map_err(|e| unreachable(endpoint, &e))
}

/// No daemon answers on this socket: what a person can do.
#[must_use]
pub fn unreachable(endpoint: &Path, error: &dyn std::error::Error) -> Error {
    Error::new(Kind::Unavailable, mend(endpoint, &deepest(error)))
}

/// The last cause: those above it repeat it.
fn deepest(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.last().unwrap_or(error).to_string()
}

/// What a person can do about a daemon that does not answer.
fn mend(endpoint: &Path, why: &str) -> String {
    let mend = match std::fs::symlink_metadata(endpoint) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => "only root may ask it".to_owned(),
        Err(_) => "is it running? `systemctl status corten` tells".to_owned(),
        Ok(_) => format!("{why}; is it running, and may you open it?"),
    };
    format!("no daemon answers at {}: {mend}", endpoint.display())
}

/// The daemon's refusal, in its own words.
#[must_use]
pub fn refused(status: &Status) -> Error {
    let kind = match status.code() {
        Code::NotFound => Kind::NotFound,
        Code::InvalidArgument => Kind::InvalidArgument,
        Code::Unavailable => Kind::Unavailable,
        _ => Kind::Internal,
    };
    Error::new(kind, status.message())
}

/// Writes an answer to stdout.
///
/// # Errors
/// Where nobody reads it.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let done = writeln!(out, "{}", text.trim_end());
    done.map_err(|e| Error::internal("print").caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_daemon_a_person_is_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("c.sock");
        let error = connect(&socket).await.unwrap_err().chain();
        assert!(error.contains("is it running?"), "{error}");
        let dead = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        drop(dead);
        let error = connect(&socket).await.unwrap_err().chain();
        assert!(error.contains("efused"), "{error}");
    }
}
