//! Registries: names become manifests, descriptors become bytes.
//!
//! The port is [`Registry`]; the adapter [`HttpRegistry`] speaks the OCI distribution
//! specification 1.1 with the distribution project's token authentication, and asks the hosts that
//! `hosts.toml` trees and `registries.conf` name. Invariants: a manifest that is given out has the digest that was asked
//! for; credentials go to the host that was asked and to the token server that it names, never
//! along a redirect.

mod ahead;
mod auth;
mod challenge;
mod client;
mod error;
pub mod fakes;
mod givers;
mod hosts;
mod hosts_toml;
mod http;
mod keyring;
mod pace;
mod patience;
mod place;
mod registries_conf;
mod route;
mod stream;

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

pub use self::{
    error::Error,
    givers::Givers,
    http::{HttpRegistry, Settings},
    place::Place,
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

/// One host that a pull would ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where the repository is.
    pub url: String,
    /// The registry's name as the host is told it (`?ns=`).
    pub namespace: Option<String>,
    /// `tag`, `manifests`, `blobs`; empty: it is passed over.
    pub asked_for: Vec<&'static str>,
    /// It stands in for the registry.
    pub mirror: bool,
    /// Its certificate is not checked.
    pub skip_verify: bool,
    /// The line that names it; `None`: nothing does, it is where the name says.
    pub place: Option<Place>,
}

/// Where images come from.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The manifest or index that a reference names: by its digest if it has one, else by its tag.
    async fn resolve(&self, image: &ImageRef, credentials: &Credentials) -> Result<Fetched, Error>;

    /// A manifest that the image's index names.
    async fn manifest(
        &self,
        image: &ImageRef,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Fetched, Error> {
        let named = image.with_digest(digest.clone());
        self.resolve(&named, credentials).await
    }

    /// The images that a name may mean, the likeliest first; several only for a short one. From
    /// memory.
    fn names(&self, name: &str) -> crate::error::Result<Vec<ImageRef>> {
        Ok(vec![name.parse()?])
    }

    /// Takes up what the node's files say now of registries.
    fn refresh(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The hosts that a pull of the image would ask, in order. Asks none of them.
    fn explain(&self, _image: &ImageRef) -> Result<Vec<Route>, Error> {
        Ok(Vec::new())
    }

    /// A blob of the image's repository from its first byte. A connection that breaks is taken up
    /// again where it ended, at the next host if need be.
    async fn blob(
        &self,
        image: &ImageRef,
        blob: &Descriptor,
        credentials: &Credentials,
    ) -> Result<BlobStream, Error> {
        let givers = Givers::default();
        self.blob_of(image, blob, credentials, (0, &givers)).await
    }

    /// The same from a later byte on, and from the hosts that have not been blamed, with word of who
    /// gives it.
    async fn blob_of(
        &self,
        image: &ImageRef,
        blob: &Descriptor,
        credentials: &Credentials,
        from: (u64, &Givers),
    ) -> Result<BlobStream, Error>;
}

#[cfg(test)]
mod tests;
