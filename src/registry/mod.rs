//! Registries: names become manifests, descriptors become bytes.
//!
//! The port is [`Registry`]; the adapter [`HttpRegistry`] speaks the OCI distribution
//! specification 1.1 with the distribution project's token authentication, and asks the hosts that
//! `hosts.toml` trees name. Invariants: a manifest that is given out has the digest that was asked
//! for; credentials go to the host that was asked and to the token server that it names, never
//! along a redirect.

mod auth;
mod challenge;
mod client;
mod error;
pub mod fakes;
mod hosts;
mod hosts_toml;
mod http;
mod pace;
mod patience;
mod stream;

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

pub use self::{
    error::Error,
    http::{HttpRegistry, Settings},
};
use crate::{
    id::{Digest, ImageRef},
    model::{credentials::Credentials, image::Descriptor},
};

/// The bytes of a blob in order. Nothing is verified yet: whoever reads them hashes them anyway.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A manifest or index with what it is called.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Where images come from.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The manifest or index that a reference names: by its digest if it has one, else by its tag.
    async fn resolve(&self, image: &ImageRef, credentials: &Credentials) -> Result<Fetched, Error>;

    /// A blob of the image's repository from its first byte. A connection that breaks is taken up
    /// again where it ended, at the next host if need be.
    async fn blob(
        &self,
        image: &ImageRef,
        blob: &Descriptor,
        credentials: &Credentials,
    ) -> Result<BlobStream, Error>;
}

#[cfg(test)]
mod tests;
