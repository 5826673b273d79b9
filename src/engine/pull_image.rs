//! PullImage: `resolve → config → all layers at once → record → visible`.
//!
//! Any number of callers of the same reference with the same credentials share one pull; with
//! other credentials the registry is asked again, and only layers are shared.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryFutureExt, future::BoxFuture};

use super::{
    fetch_layer::another_host,
    flights::Boarding,
    image_layers::{Bring, Brought, ProgressSink, WantedLayer, chains, wanted_by},
    images::Images,
    keep_blobs::blobs_of,
};
use crate::{
    error::{Error, Kind, Result, Sentinel},
    id::{Digest, ImageId, ImageRef},
    model::{
        artifact::artifact_type,
        credentials::Credentials,
        image::{
            Descriptor, ImageManifest, ImageRecord, LARGEST_MANIFEST, Manifest, Progress, Stage,
            choose,
        },
    },
    registry::{self, Givers, Route},
};

/// Indexes that lead to indexes are followed this far.
const DEEPEST_INDEX: usize = 3;

impl Images {
    /// Pulls an image of any name: a short one may mean several, of which the first that can be had
    /// is pulled.
    ///
    /// # Errors
    /// As [`Images::pull`]; `InvalidArgument` where it is no name.
    pub async fn pull_named(
        self: &Arc<Self>,
        name: &str,
        credentials: Credentials,
        progress: ProgressSink,
    ) -> Result<ImageId> {
        self.registry.refresh()?;
        let mut failed: Option<Error> = None;
        for image in self.registry.names(name)? {
            let pulled = self.pull(&image, credentials.clone(), Arc::clone(&progress));
            match (pulled.await, failed.take()) {
                (Ok(id), _) => return Ok(id),
                // What the owner's rules say of one is not asked of another.
                (Err(error), _) if is_refusal(&error) => return Err(error),
                (Err(error), None) => failed = Some(error),
                (Err(error), Some(before)) => failed = Some(error.during(before.chain())),
            }
        }
        Err(failed.unwrap_or_else(|| Error::invalid(format!("{name:?} names no image"))))
    }

    /// The hosts that a pull of each image that the name may mean would ask, in order.
    ///
    /// # Errors
    /// `InvalidArgument` where it is no name; where a file of the node's cannot be used.
    pub fn explain_pull(&self, name: &str) -> Result<Vec<(ImageRef, Vec<Route>)>> {
        self.registry.refresh()?;
        let explain = |image: ImageRef| {
            let routes = self.registry.explain(&image)?;
            Ok((image, routes))
        };
        self.registry
            .names(name)?
            .into_iter()
            .map(explain)
            .collect()
    }

    /// Pulls an image and gives its id. Dropped by every caller, the pull ends and leaves nothing
    /// but whole layers, which the next pull or removal finds.
    ///
    /// # Errors
    /// As the registry, the layers and the disk say, with the image's name.
    pub async fn pull(
        self: &Arc<Self>,
        image: &ImageRef,
        credentials: Credentials,
        progress: ProgressSink,
    ) -> Result<ImageId> {
        let key = (image.clone(), credentials.clone());
        let pull = Pull {
            images: Arc::clone(self),
            image: image.clone(),
            credentials,
            progress,
        };
        let (flight, boarding) = self.pulls.board(key, || Arc::new(pull).run());
        if boarding == Boarding::Joined {
            tracing::debug!(image.r#ref = %image, "joins a pull under way");
        }
        let pulled = flight.await;
        match &pulled {
            Err(error) if is_in_vain(error) => self.reclaim_soon(),
            Err(_) => self.reclaim_later(),
            Ok(_) => {}
        }
        pulled.map_err(|error| error.during(format!("pull image {image}")))
    }
}

/// Whether the node's owner does not let the image be used.
fn is_refusal(error: &Error) -> bool {
    error.kind() == Kind::Sentinel(Sentinel::SignatureValidationFailed)
}

/// Whether the next try would fail as this one did: then its whole layers are of no use to it.
pub(super) fn is_in_vain(error: &Error) -> bool {
    matches!(
        error.kind(),
        Kind::Internal | Kind::ResourceExhausted | Kind::PermissionDenied
    )
}

/// One pull.
pub(super) struct Pull {
    pub(super) images: Arc<Images>,
    pub(super) image: ImageRef,
    pub(super) credentials: Credentials,
    pub(super) progress: ProgressSink,
}

/// A manifest of one image with its bytes.
struct Found {
    digest: Digest,
    bytes: Bytes,
    manifest: ImageManifest,
}

impl Pull {
    async fn run(self: Arc<Self>) -> Result<ImageId> {
        (self.progress)(Progress {
            stage: Stage::Resolving,
            layer: None,
            done: 0,
            total: 0,
        });
        let top = self
            .images
            .registry
            .resolve(&self.image, &self.credentials)
            .await?;
        self.images.verify_pull(&self.image, &top).await?;
        let named = Manifest::descriptor(&top.bytes, &top.digest);
        let found = self.choose(top).await?;
        crate::failpoint!("pull_image/resolved");
        // An artifact's config says nothing of its files, and may be anything.
        let config = match artifact_type(&found.manifest) {
            Some(_) => found.bytes.to_vec(),
            None => self.config(&found.manifest.config).await?,
        };
        let layers = wanted_by(&found.manifest, &config)?;
        let id = ImageId(Digest::of(&config));
        let _pins = self.images.pin(&chains(&layers));
        let unfinished = self.images.begin_pull(&found.digest, &layers).await?;
        let ensured = self.images.ensure_layers(&layers, &self, &self.progress);
        let kept = async {
            match self.images.keeps_blobs() {
                true => {
                    let mut blobs = blobs_of(&found.manifest);
                    // An image's config is stored with its record.
                    blobs.retain(|(digest, _)| *digest != id.0);
                    self.keep_blobs(blobs).await
                }
                false => Ok(()),
            }
        };
        if let Err(error) = ensured.and_then(|()| kept).await {
            unfinished.end().await;
            return Err(error);
        }
        crate::failpoint!("pull_image/layers");
        let record = self.record(&found, named, &layers, &id);
        let blobs = vec![(id.0.clone(), config), (found.digest, found.bytes.to_vec())];
        let stored = self.images.store(record, blobs).await;
        crate::failpoint!("pull_image/stored");
        unfinished.end().await;
        stored?;
        Ok(id)
    }

    /// Follows indexes to the image for this machine.
    async fn choose(&self, top: registry::Fetched) -> Result<Found> {
        let mut at = top;
        for _ in 0..DEEPEST_INDEX {
            let index = match Manifest::parse(&at.bytes)? {
                Manifest::Image(manifest) => {
                    return Ok(Found {
                        digest: at.digest,
                        bytes: at.bytes,
                        manifest,
                    });
                }
                Manifest::Index(index) => index,
            };
            let chosen = choose(&index, &self.images.platform)?;
            at = self
                .images
                .registry
                .manifest(&self.image, &chosen.digest, &self.credentials)
                .await?;
        }
        Err(Error::internal(format!(
            "the index leads to more than {DEEPEST_INDEX} others"
        )))
    }

    /// The config's bytes: kept here, or from the registry, verified.
    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        if config.size > LARGEST_MANIFEST {
            return Err(Error::internal(format!(
                "the config has {} bytes, at most {LARGEST_MANIFEST} are read",
                config.size
            )));
        }
        if let Ok(known) = self.images.content.get(&config.digest) {
            return Ok(known);
        }
        let givers = Givers::default();
        loop {
            let bytes = self.bytes_of(config, &givers).await?;
            let actual = Digest::of(&bytes);
            if actual == config.digest {
                return Ok(bytes);
            }
            let text = format!("the config is {actual}, expected {}", config.digest);
            let error = Error::internal(text);
            if !another_host(&error, &givers) {
                return Err(error);
            }
        }
    }

    async fn bytes_of(&self, blob: &Descriptor, givers: &Givers) -> Result<Vec<u8>> {
        let registry = &self.images.registry;
        let asked = registry.blob_of(&self.image, blob, &self.credentials, (0, givers));
        let mut stream = asked.await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    }

    /// By tag the image gets tag and digest; by digest only that, whatever tag stands beside it.
    fn record(
        &self,
        found: &Found,
        named: Descriptor,
        layers: &[WantedLayer],
        id: &ImageId,
    ) -> ImageRecord {
        let tag = Some(self.image.clone()).filter(|image| image.digest().is_none());
        let tagged = tag.clone().map(|tag| (tag, named.digest.clone()));
        ImageRecord {
            id: id.clone(),
            tags: tag.into_iter().collect(),
            digests: [self.image.with_digest(named.digest.clone())].into(),
            manifest: found.digest.clone(),
            targets: vec![named],
            tagged: tagged.into_iter().collect(),
            layers: chains(layers),
            removed: false,
        }
    }
}

impl Bring for Pull {
    fn bring(self: Arc<Self>, layer: WantedLayer) -> BoxFuture<'static, Result<Brought>> {
        async move { self.fetch(&layer).await }.boxed()
    }
}
