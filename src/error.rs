//! The one error of the daemon's inner parts, and its closed list of kinds.
//!
//! An error is classified where its cause is known, keeps that cause as its source, and is turned
//! into a gRPC status in one place only (`cri/status.rs`).
//!
//! Invariant: no gRPC type here, and the source is never repeated in the message.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of the daemon's inner parts.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an error is: what a caller can do about it depends on this alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request cannot be right, whatever the state.
    InvalidArgument,
    /// The object does not exist.
    NotFound,
    /// A finished object stands under this key.
    AlreadyExists,
    /// The object is in the wrong state.
    FailedPrecondition,
    /// The time that the caller gave was up.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// A limit of this node or of the registry was met.
    ResourceExhausted,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// Credentials are right and do not suffice.
    PermissionDenied,
    /// Not now: recovering, or no network yet.
    Unavailable,
    /// This build does not have it.
    Unimplemented,
    /// The kubelet looks for this word at the start of the message.
    Sentinel(Sentinel),
    /// Anything else.
    Internal,
}

/// Words that the kubelet recognises at the start of a message (its `cri-api` error package).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sentinel {
    /// PullImage: the registry cannot be reached.
    RegistryUnavailable,
    /// PullImage: the image's signature is not acceptable.
    SignatureValidationFailed,
    /// CreateContainer: an image volume could not be mounted.
    ImageVolumeMountFailed,
    /// CreateContainer: a recursive read-only mount is not possible here.
    RroUnsupported,
}

impl Sentinel {
    /// The word itself.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RegistryUnavailable => "RegistryUnavailable",
            Self::SignatureValidationFailed => "SignatureValidationFailed",
            Self::ImageVolumeMountFailed => "ImageVolumeMountFailed",
            Self::RroUnsupported => "RROUnsupported",
        }
    }
}

/// A failure with its kind, what was attempted on which object, and its cause.
/// It can be cloned, so that all who wait for one operation hear of its end.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error without a cause of its own: `message` names the operation and the object.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// An error of kind [`Kind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// An error of kind [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// An error of kind [`Kind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    /// An error of kind [`Kind::FailedPrecondition`].
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Kind::FailedPrecondition, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same kind, with this error as the cause of a wider operation.
    #[must_use]
    pub fn during(self, message: impl Into<String>) -> Self {
        Self {
            kind: self.kind,
            message: message.into(),
            source: Some(Arc::new(self)),
        }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message and those of all causes, joined by colons.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error's message and those of all its causes, joined by colons.
#[must_use]
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|e| e as &(dyn StdError + 'static))
    }
}

/// Adds what was attempted to the error of a lower layer.
pub trait Context<T> {
    /// Makes the failure an [`Error`] of this kind, with the lower error as its cause.
    ///
    /// # Errors
    /// Where `self` is one.
    fn context(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, kind: Kind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::new(kind, message()).caused_by(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_each_cause_once_and_keeps_the_kind() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::new(Kind::NotFound, "read record a")
            .caused_by(io)
            .during("load a");
        assert_eq!(error.to_string(), "load a");
        assert_eq!(error.chain(), "load a: read record a: disk on fire");
        assert_eq!(error.kind(), Kind::NotFound);
    }
}
