//! One layer: `download ─feed─▶ unpack`, from one host after the other until one gives the right
//! bytes.
//!
//! Invariant: a mirror's wrong bytes cost no more than the time they took: what was unpacked of
//! them is thrown away, and the next host is asked. Only the registry's own fail the pull.

use std::{error::Error as _, io, sync::Arc};

use futures::StreamExt;
use tokio::task::JoinHandle;

use super::{
    image_layers::{ProgressSink, WantedLayer},
    images::Images,
    pull_image::Pull,
};
use crate::{
    error::{Error, Result},
    model::image::{Descriptor, Stage},
    registry::{self, BlobStream, Givers},
    snapshot::Staged,
    unpack::{self, FeedReader, Feeder, Unpacked},
};

/// Layers of fewer bytes are unpacked sooner than a second thread has started.
const SMALL: u64 = 1 << 20;
/// Progress is told after so many bytes.
const TELL_AFTER: u64 = 1 << 20;

impl Pull {
    /// Fetches a layer and unpacks it, verified.
    ///
    /// # Errors
    /// As the registry, the layer and the disk say.
    pub(super) async fn fetch(&self, layer: &WantedLayer) -> Result<(Staged, Unpacked)> {
        let givers = Givers::default();
        loop {
            match self.attempt(layer, &givers).await {
                Err(error) if for_its_bytes(&error) && another_host(&error, &givers) => {}
                done => return done,
            }
        }
    }

    async fn attempt(&self, layer: &WantedLayer, givers: &Givers) -> Result<(Staged, Unpacked)> {
        let blob = Descriptor {
            media_type: String::new(),
            digest: layer.name.clone(),
            size: layer.size,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let stream = self
            .images
            .registry
            .blob_of(&self.image, &blob, &self.credentials, givers)
            .await?;
        let (feeder, reader) = unpack::feed();
        let download = Aborting(tokio::spawn(download(
            stream,
            feeder,
            layer.clone(),
            Arc::clone(&self.progress),
        )));
        let unpacked = unpack_feed(Arc::clone(&self.images), layer.clone(), reader).await;
        drop(download);
        crate::failpoint!("pull_image/unpacked");
        unpacked
    }
}

/// Whether there is another host to ask, after the bytes that came were wrong. Says whose they were.
pub(super) fn another_host(error: &Error, givers: &Givers) -> bool {
    let hosts = givers.blame();
    if !hosts.is_empty() {
        let error = error.chain();
        tracing::warn!(
            ?hosts,
            error,
            "mirror gave wrong bytes; the next host is asked"
        );
    }
    !hosts.is_empty()
}

/// Whether it is the bytes that are wrong, and neither the disk nor the way here.
fn for_its_bytes(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(at) = cause {
        if let Some(error) = at.downcast_ref::<unpack::Error>() {
            return match asked(error) {
                Some(error) => matches!(error, registry::Error::TooLarge { .. }),
                None => error.is_of_the_layer(),
            };
        }
        cause = at.source();
    }
    false
}

/// What the registry said, where the download failed.
fn asked(error: &unpack::Error) -> Option<&registry::Error> {
    let cause = error.read_cause().and_then(io::Error::get_ref);
    cause.and_then(|cause| cause.downcast_ref())
}

/// A task that ends with its owner.
struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Moves bytes from the network to the unpacking thread, on a task of its own so that TLS of
/// several layers uses several cores.
async fn download(
    mut stream: BlobStream,
    feeder: Feeder,
    layer: WantedLayer,
    progress: ProgressSink,
) {
    let (mut done, mut told) = (0, 0);
    layer.tell(&progress, Stage::Fetching, 0);
    while let Some(chunk) = stream.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return feeder.fail(io::Error::other(error)),
        };
        done += chunk.len() as u64;
        if !feeder.send(chunk).await {
            return;
        }
        if done - told >= TELL_AFTER {
            told = done;
            layer.tell(&progress, Stage::Fetching, done);
        }
    }
    layer.tell(&progress, Stage::Unpacking, done);
    feeder.end();
}

async fn unpack_feed(
    images: Arc<Images>,
    layer: WantedLayer,
    reader: FeedReader,
) -> Result<(Staged, Unpacked)> {
    super::blocking(move || {
        let staged = images.layers.begin()?;
        let policy = images.policy().unpacking;
        let (tree, expected) = (staged.tree(), layer.expected(&policy));
        let unpacked = match layer.size {
            ..SMALL => unpack::unpack(reader, &tree, &expected),
            _ => unpack::unpack_on_two(reader, &tree, &expected),
        };
        let unpacked = unpacked.map_err(unpack_error)?;
        Ok((staged, unpacked))
    })
    .await
}

/// An error of unpacking; where the download failed, it is the registry that says of what kind.
pub(super) fn unpack_error(error: unpack::Error) -> Error {
    let kind = asked(&error).map(registry::Error::kind);
    Error::new(kind.unwrap_or_else(|| error.kind()), "unpack").caused_by(error)
}
