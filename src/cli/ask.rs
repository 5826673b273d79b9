//! Asking the daemon over its socket.
//!
//! Invariant: stdout has only what was asked for; progress and trouble are on stderr.

use crate::error::{Error, Kind, Result};
use clap::ValueEnum;
use corten_proto::admin::v1::admin_client::AdminClient;
use std::io::Write;
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
    client.map_err(|e| Error::new(Kind::Unavailable, unreachable(endpoint)).caused_by(e))
}

/// What a person can do about a daemon that does not answer.
fn unreachable(endpoint: &Path) -> String {
    let socket = endpoint.display();
    let mend = match std::fs::symlink_metadata(endpoint) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => "only root may ask it",
        Err(_) => "there is no such socket: is the daemon running? (systemctl status corten)",
        Ok(_) => "may you open it, and is the daemon running? (systemctl status corten)",
    };
    format!("the daemon at {socket} cannot be reached; {mend}")
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
