//! Why a registry did not give what was asked for.

use std::{io, path::PathBuf, time::Duration};

use super::Place;
use crate::{
    error::{Kind, Sentinel},
    id::Digest,
};

/// A failure of one request to one host, or of all hosts together. Places are `host/path`, without
/// credentials and queries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry answered with a status that is no success.
    #[error("{place} answered {status}{}", detail(.message))]
    Status {
        /// Host and path.
        place: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own code and message, if it gave any.
        message: String,
        /// For how long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// The host has asked before to be left alone or was tried in vain, and that time is not over.
    #[error("{place} is not asked for {} s more: it had no time, or no TLS", .left.as_secs().max(1))]
    Busy {
        /// Host and path.
        place: String,
        /// The time that is left.
        left: Duration,
    },
    /// The host answers, and sends too little to ever be done.
    #[error("{place} made no progress: {bytes} bytes in {seconds} s")]
    Stalled {
        /// Host and path.
        place: String,
        /// The time-out.
        seconds: u64,
        /// What came in it.
        bytes: u64,
    },
    /// The connection ended before the body did, without a word.
    #[error("{place} ended after {offset} of {size} bytes")]
    Short {
        /// Host and path.
        place: String,
        /// Bytes that came.
        offset: u64,
        /// Bytes that there are.
        size: u64,
    },
    /// The host answers another range than the one that was asked for, or says that the blob has
    /// another size.
    #[error("{place} sends {actual}, expected {expected}")]
    Range {
        /// Host and path.
        place: String,
        /// What was asked for.
        expected: String,
        /// What its headers say.
        actual: String,
    },
    /// No answer, or it broke off.
    #[error("{operation} {place}")]
    Transport {
        /// `reach`, `read from`.
        operation: &'static str,
        /// Host and path.
        place: String,
        /// The HTTP client's word.
        #[source]
        source: reqwest::Error,
    },
    /// The token server gave no token.
    #[error("no token from {place} for {host}: {reason}")]
    Token {
        /// Host and path of the token server.
        place: String,
        /// The registry that asks for the token.
        host: String,
        /// Why.
        reason: String,
    },
    /// The registry asks for an authentication that is not known here.
    #[error("{place} asks for authentication in a way that is not supported: {challenge}")]
    Challenge {
        /// Host and path.
        place: String,
        /// The WWW-Authenticate header.
        challenge: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{place} sent {actual}, expected {expected}")]
    DigestMismatch {
        /// Host and path.
        place: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More bytes than can be right.
    #[error("{place} sent more than {limit} bytes")]
    TooLarge {
        /// Host and path.
        place: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A redirect to where nobody should be sent.
    #[error("{place} redirects to {target:?}: {reason}")]
    Redirect {
        /// Host and path.
        place: String,
        /// Where to.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// A file of the node's registry configuration cannot be used.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the node's registry configuration cannot be read.
    #[error("read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// The node's configuration forbids it.
    #[error("{name} may not be pulled: {place} blocks it")]
    Blocked {
        /// The image.
        name: String,
        /// The line that says so.
        place: Place,
    },
    /// A short name may mean several images.
    #[error(
        "{name:?} is a short name that may mean an image of several registries ({place}); write it in full"
    )]
    ShortName {
        /// The name.
        name: String,
        /// The line with the registries.
        place: Place,
    },
    /// No host was able.
    #[error("{}", all(.0))]
    All(Vec<Error>),
    /// The configuration leaves no host to ask.
    #[error("no host for {0} may be asked: the node's files give none the capability")]
    NoHost(String),
}

fn detail(message: &str) -> String {
    if message.is_empty() {
        return String::new();
    }
    format!(" ({message})")
}

/// Each host's failure; the last is the registry itself and comes first.
fn all(attempts: &[Error]) -> String {
    let chains: Vec<_> = attempts
        .iter()
        .rev()
        .map(|error| crate::error::chain(error))
        .collect();
    chains.join("; before that: ")
}

impl Error {
    /// Whether the same request may succeed in a while.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            // Nobody listens, or the name is not known: who asked asks again.
            Self::Transport { source, .. } => !source.is_connect() && !source.is_builder(),
            Self::Busy { .. } | Self::Stalled { .. } | Self::Short { .. } => true,
            Self::All(attempts) => attempts.last().is_some_and(Self::is_temporary),
            _ => false,
        }
    }

    /// For how long the host wants to be left alone, if it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Busy { left, .. } => Some(*left),
            _ => None,
        }
    }

    /// The class of the error; of several hosts the last one decides, which is the registry itself.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Status { status, .. } => match status {
                401 => Kind::Unauthenticated,
                403 => Kind::PermissionDenied,
                404 => Kind::NotFound,
                408 | 429 | 500..=599 => Kind::Sentinel(Sentinel::RegistryUnavailable),
                _ => Kind::Internal,
            },
            Self::Transport { .. }
            | Self::Busy { .. }
            | Self::Stalled { .. }
            | Self::Short { .. } => Kind::Sentinel(Sentinel::RegistryUnavailable),
            Self::Token { .. } | Self::Challenge { .. } => Kind::Unauthenticated,
            Self::All(attempts) => attempts.last().map_or(Kind::Internal, Self::kind),
            Self::DigestMismatch { .. }
            | Self::TooLarge { .. }
            | Self::Range { .. }
            | Self::Redirect { .. } => Kind::Internal,
            Self::Blocked { .. } => Kind::PermissionDenied,
            Self::Config { .. } | Self::File { .. } | Self::ShortName { .. } | Self::NoHost(_) => {
                Kind::FailedPrecondition
            }
        }
    }
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        Self::new(kind, "ask the registry").caused_by(error)
    }
}
