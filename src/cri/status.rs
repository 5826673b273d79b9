//! The one table from an error's kind to a gRPC status.
//!
//! Invariant: the match names every kind, so that a new one does not compile until it has its code;
//! and a message tells the whole chain of causes, for the caller has no other way to see it.

use crate::error::{Error, Kind, Sentinel};
use tonic::{Code, Status};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let chain = error.chain();
        match error.kind() {
            Kind::InvalidArgument => Self::new(Code::InvalidArgument, chain),
            Kind::NotFound => Self::new(Code::NotFound, chain),
            Kind::AlreadyExists => Self::new(Code::AlreadyExists, chain),
            Kind::FailedPrecondition => Self::new(Code::FailedPrecondition, chain),
            Kind::DeadlineExceeded => Self::new(Code::DeadlineExceeded, chain),
            Kind::Cancelled => Self::new(Code::Cancelled, chain),
            Kind::ResourceExhausted => Self::new(Code::ResourceExhausted, chain),
            Kind::Unauthenticated => Self::new(Code::Unauthenticated, chain),
            Kind::PermissionDenied => Self::new(Code::PermissionDenied, chain),
            Kind::Unavailable => Self::new(Code::Unavailable, chain),
            Kind::Unimplemented => Self::new(Code::Unimplemented, chain),
            Kind::Sentinel(sentinel) => Self::new(Code::Unknown, with_word(sentinel, chain)),
            Kind::Internal => Self::new(Code::Internal, chain),
        }
    }
}

/// The kubelet looks for the word at the very beginning.
fn with_word(sentinel: Sentinel, chain: String) -> String {
    match chain.starts_with(sentinel.word()) {
        true => chain,
        false => format!("{}: {chain}", sentinel.word()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_the_whole_chain() {
        let cause = std::io::Error::other("no space");
        let error = Error::internal("save record")
            .caused_by(cause)
            .during("run pod web");
        let status = Status::from(error);
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.message(), "run pod web: save record: no space");
    }

    #[test]
    fn a_sentinel_begins_with_its_word_once() {
        let plain = Error::new(Kind::Sentinel(Sentinel::RroUnsupported), "mount /a");
        let status = Status::from(plain);
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.message(), "RROUnsupported: mount /a");
        let told = Error::new(
            Kind::Sentinel(Sentinel::RegistryUnavailable),
            "RegistryUnavailable: x",
        );
        assert_eq!(Status::from(told).message(), "RegistryUnavailable: x");
    }
}
