//! A registry in memory: what is pushed can be pulled, held back or refused.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::watch;

use super::{BlobStream, Error, Fetched, Givers, Registry};
use crate::{
    id::{Digest, ImageRef},
    model::{credentials::Credentials, image::Descriptor},
};

/// Chunks of a blob: small, so that each one passes several times through every pipe.
const CHUNK: usize = 1000;

/// A registry without a network.
pub struct HttpRegistry {
    state: Mutex<State>,
    open: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    manifests: HashMap<ImageRef, Bytes>,
    blobs: HashMap<Digest, Bytes>,
    broken: HashSet<Digest>,
    asked: HashMap<Digest, usize>,
}

impl Default for HttpRegistry {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            open: watch::Sender::new(true),
        }
    }
}

impl HttpRegistry {
    /// Keeps a blob and gives its descriptor.
    pub fn push_blob(&self, bytes: Vec<u8>) -> Descriptor {
        let digest = Digest::of(&bytes);
        let size = bytes.len() as u64;
        self.change(|state| state.blobs.insert(digest.clone(), bytes.into()));
        Descriptor {
            media_type: String::new(),
            digest,
            size,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        }
    }

    /// Keeps a manifest under a name with a tag, and under its digest.
    pub fn push_manifest(&self, name: &ImageRef, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.change(|state| {
            state
                .manifests
                .insert(name.with_digest(digest.clone()), bytes.clone().into());
            state.manifests.insert(name.clone(), bytes.into());
        });
        digest
    }

    /// Lets blobs break off in the middle from now on.
    pub fn break_blob(&self, digest: &Digest) {
        self.change(|state| state.broken.insert(digest.clone()));
    }

    /// Lets a blob be whole again.
    pub fn mend_blob(&self, digest: &Digest) {
        self.change(|state| state.broken.remove(digest));
    }

    /// Holds back the bytes of blobs.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets the bytes of blobs go.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// How often a blob was asked for.
    #[must_use]
    pub fn asked(&self, digest: &Digest) -> usize {
        self.change(|state| state.asked.get(digest).copied().unwrap_or(0))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn status(place: String, status: u16) -> Error {
    Error::Status {
        place,
        status,
        message: String::new(),
        retry_after: None,
    }
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn resolve(
        &self,
        image: &ImageRef,
        _credentials: &Credentials,
    ) -> Result<Fetched, Error> {
        let name = image
            .digest()
            .map_or_else(|| image.clone(), |digest| image.with_digest(digest.clone()));
        let bytes = self.change(|state| state.manifests.get(&name).cloned());
        let bytes = bytes.ok_or_else(|| status(name.to_string(), 404))?;
        Ok(Fetched {
            digest: Digest::of(&bytes),
            bytes,
        })
    }

    async fn blob_of(
        &self,
        _image: &ImageRef,
        blob: &Descriptor,
        _credentials: &Credentials,
        (from, _): (u64, &Givers),
    ) -> Result<BlobStream, Error> {
        let place = blob.digest.to_string();
        let (bytes, broken) = self.change(|state| {
            *state.asked.entry(blob.digest.clone()).or_default() += 1;
            (
                state.blobs.get(&blob.digest).cloned(),
                state.broken.contains(&blob.digest),
            )
        });
        let bytes = bytes.ok_or_else(|| status(place.clone(), 404))?;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        let mut chunks: Vec<_> = bytes[from..]
            .chunks(CHUNK)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        if broken {
            chunks.truncate(chunks.len() / 2);
            chunks.push(Err(status(place, 503)));
        }
        let mut open = self.open.subscribe();
        let opened = stream::once(async move {
            // The sender lives as long as the registry; gone, the bytes may go.
            let _ = open.wait_for(|open| *open).await;
            stream::iter(chunks)
        });
        Ok(Box::pin(opened.flatten()))
    }
}
