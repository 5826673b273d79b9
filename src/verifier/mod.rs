//! A verdict before use: whether an image may be pulled, and whether a container may be made of it.
//!
//! The port is [`Verifier`]; the adapter [`Programs`] asks every program of a directory, as
//! containerd's image verifier does, so that a node keeps the verifiers that it has. Invariant:
//! what gives no verdict (a program that cannot be started, takes too long or is killed) is a
//! refusal.

pub mod fakes;
mod programs;

use async_trait::async_trait;

pub use self::programs::Programs;
use crate::{
    error::{Kind, Sentinel},
    id::ImageRef,
    model::image::Descriptor,
};

/// What is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The name by which it is asked for.
    pub name: ImageRef,
    /// The manifest or index that the name stands for.
    pub target: Descriptor,
}

/// Who judges images.
#[async_trait]
pub trait Verifier: Send + Sync {
    /// Comes back where the image may be used.
    ///
    /// # Errors
    /// Who refuses it and what they said, or why there is no verdict.
    async fn verify(&self, subject: &Subject) -> Result<(), Error>;
}

/// Why an image may not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A verifier said no.
    #[error("verifier {program} refuses image {image} (exit code {code}): {output}")]
    Refused {
        /// The name of its file.
        program: String,
        /// The image and its digest.
        image: String,
        /// What it ended with.
        code: i32,
        /// What it printed, cut to 32 KiB.
        output: String,
    },
    /// A verifier took too long.
    #[error("verifier {program} gave no verdict on image {image} within {seconds} s: {output}")]
    TooLate {
        /// The name of its file.
        program: String,
        /// The image and its digest.
        image: String,
        /// The limit.
        seconds: f64,
        /// What it had printed until then.
        output: String,
    },
    /// A verifier could not be run to its end.
    #[error("verifier {program} cannot judge image {image}: {output}")]
    Failed {
        /// The name of its file.
        program: String,
        /// The image and its digest.
        image: String,
        /// What it printed, if it ran.
        output: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The directory cannot be read.
    #[error("list the verifiers in {directory}")]
    List {
        /// The directory.
        directory: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The class of the error: one that the kubelet knows by name.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { .. }
            | Self::TooLate { .. }
            | Self::Failed { .. }
            | Self::List { .. } => Kind::Sentinel(Sentinel::SignatureValidationFailed),
        }
    }
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), "image is not verified").caused_by(error)
    }
}

#[cfg(test)]
mod tests;
