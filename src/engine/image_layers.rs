//! Layers of an image, all at once: each is fetched and unpacked alone, then committed when the
//! one below is there. One chain id is made once, whoever asks.
//!
//! ```text
//! layer 0  fetch ─ verify ─ unpack ─ commit
//! layer 1  fetch ─ verify ─ unpack ─────── (0) ─ commit
//! layer 2  exists                                        (1) ─ nothing to do
//! ```

use std::sync::Arc;

use futures::future::{BoxFuture, try_join_all};

use super::{
    blocking,
    flights::{Boarding, Flight},
    images::Images,
    keep_blobs::Named,
};
use crate::{
    content::Partial,
    error::{Context, Error, Kind, Result},
    id::{ChainId, Digest},
    model::{
        artifact::{self, Form, Part},
        image::{ImageConfigFile, ImageManifest, Progress, Stage, chain_ids},
        image_policy::UnpackPolicy,
    },
    snapshot::{Place, Staged},
    unpack::{Expected, Unpacked},
};

/// Whom to tell how far layers are; called from any thread.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// A layer that an image needs.
#[derive(Clone)]
pub(super) struct WantedLayer {
    /// Its digest as the manifest names it, for progress and messages.
    pub name: Digest,
    /// Its bytes in the manifest.
    pub size: u64,
    /// Digest and size of the bytes as they come, where these are known.
    pub blob: Option<(Digest, u64)>,
    /// What it becomes.
    pub place: Place,
    /// Of an artifact: the file that the blob is. `None`: its tar is unpacked.
    pub file: Option<String>,
}

impl WantedLayer {
    /// What the bytes have to be.
    pub fn expected(&self, policy: &UnpackPolicy) -> Expected {
        Expected {
            blob: self.blob.clone(),
            diff_id: self.place.diff_id.clone(),
            limit: policy.limit(self.size),
            devices: policy.devices,
        }
    }

    /// Its blob.
    pub fn named(&self) -> Named {
        (self.name.clone(), self.size)
    }

    /// Tells how far it is.
    pub fn tell(&self, progress: &ProgressSink, stage: Stage, done: u64) {
        progress(Progress {
            stage,
            layer: Some(self.name.clone()),
            done,
            total: self.size,
        });
    }
}

/// Pairs the layers of a manifest with the config's diff ids.
///
/// # Errors
/// `Internal` where they are not as many.
pub(super) fn wanted(manifest: &ImageManifest, diff_ids: &[Digest]) -> Result<Vec<WantedLayer>> {
    if manifest.layers.len() != diff_ids.len() {
        return Err(Error::internal(format!(
            "the manifest has {} layers, the config {}: this is no image that can be run",
            manifest.layers.len(),
            diff_ids.len()
        )));
    }
    let chains = chain_ids(diff_ids);
    let below = std::iter::once(None).chain(chains.iter().cloned().map(Some));
    let places = chains.iter().zip(below).zip(diff_ids);
    let places = places.map(|((chain, below), diff_id)| Place {
        chain: chain.clone(),
        below,
        diff_id: diff_id.clone(),
    });
    let layers = manifest.layers.iter().zip(places);
    let layers = layers.map(|(blob, place)| WantedLayer {
        name: blob.digest.clone(),
        size: blob.size,
        blob: Some((blob.digest.clone(), blob.size)),
        place,
        file: None,
    });
    Ok(layers.collect())
}

/// What an artifact's blobs become, one on the other.
fn wanted_parts(manifest: &ImageManifest) -> Result<Vec<WantedLayer>> {
    let parts = artifact::parts(manifest)?;
    let diff_ids: Vec<_> = parts.iter().map(Part::diff_id).collect();
    let (blobs, forms): (_, Vec<_>) = parts.into_iter().map(|it| (it.blob, it.form)).unzip();
    let manifest = ImageManifest {
        layers: blobs,
        ..manifest.clone()
    };
    let mut layers = wanted(&manifest, &diff_ids)?;
    for (layer, form) in layers.iter_mut().zip(forms) {
        if let Form::File(name) = form {
            layer.file = Some(name);
        }
    }
    Ok(layers)
}

/// The layers of a manifest with what says what they are: an image's config; for an artifact nothing
/// but the manifest.
///
/// # Errors
/// `Internal` where the config is not an image's, or the layers are not those that it says.
pub(super) fn wanted_by(manifest: &ImageManifest, config: &[u8]) -> Result<Vec<WantedLayer>> {
    if artifact::artifact_type(manifest).is_some() {
        return wanted_parts(manifest);
    }
    let file: ImageConfigFile = serde_json::from_slice(config).context(Kind::Internal, || {
        "the config is not that of an image that can be run".to_owned()
    })?;
    wanted(manifest, &file.rootfs.diff_ids)
}

/// The chain ids of layers, bottom first.
pub(super) fn chains(layers: &[WantedLayer]) -> Vec<ChainId> {
    layers
        .iter()
        .map(|layer| layer.place.chain.clone())
        .collect()
}

/// A layer that is unpacked and not yet part of the store.
pub(super) struct Brought {
    /// Its tree.
    pub staged: Staged,
    /// What the commit has to know of it.
    pub unpacked: Unpacked,
    /// Its blob, whole, where that went over the disk. Until the commit it stands in for the tree, which
    /// a restart throws away.
    pub blob: Option<Arc<Partial>>,
}

/// Brings the bytes of a layer into a staged tree.
pub(super) trait Bring: Send + Sync {
    /// Unpacks the layer, verified.
    fn bring(self: Arc<Self>, layer: WantedLayer) -> BoxFuture<'static, Result<Brought>>;
}

impl Images {
    /// Makes these layers (bottom first) part of the store. They have to be pinned.
    ///
    /// # Errors
    /// The first that fails; the others are given up unless somebody else wants them.
    pub(super) async fn ensure_layers<B: Bring + 'static>(
        self: &Arc<Self>,
        layers: &[WantedLayer],
        source: &Arc<B>,
        progress: &ProgressSink,
    ) -> Result<()> {
        let first = self.board_all(layers, source, progress);
        let joined = first
            .iter()
            .any(|(_, boarding)| *boarding == Boarding::Joined);
        let result = try_join_all(first.into_iter().map(|(flight, _)| flight)).await;
        if result.is_err() && joined {
            // Somebody else's download may have failed for a reason that is only theirs.
            let second = self.board_all(layers, source, progress);
            return try_join_all(second.into_iter().map(|(flight, _)| flight))
                .await
                .map(drop);
        }
        result.map(drop)
    }

    fn board_all<B: Bring + 'static>(
        self: &Arc<Self>,
        layers: &[WantedLayer],
        source: &Arc<B>,
        progress: &ProgressSink,
    ) -> Vec<(Flight<()>, Boarding)> {
        let mut flights: Vec<(Flight<()>, Boarding)> = Vec::with_capacity(layers.len());
        for layer in layers {
            let below = flights.last().map(|(flight, _)| flight.clone());
            let (images, source, progress, layer) = (
                Arc::clone(self),
                Arc::clone(source),
                Arc::clone(progress),
                layer.clone(),
            );
            let chain = layer.place.chain.clone();
            flights.push(
                self.unpacks
                    .board(chain, || images.make_layer(layer, source, below, progress)),
            );
        }
        flights
    }

    async fn make_layer<B: Bring + 'static>(
        self: Arc<Self>,
        layer: WantedLayer,
        source: Arc<B>,
        below: Option<Flight<()>>,
        progress: ProgressSink,
    ) -> Result<()> {
        if self.layers.is_there(&layer.place.chain) {
            layer.tell(&progress, Stage::Exists, layer.size);
            return Ok(());
        }
        layer.tell(&progress, Stage::Waiting, 0);
        let brought = {
            let _slot = self
                .slots
                .acquire()
                .await
                .map_err(|_| Error::internal("the daemon is ending"))?;
            source
                .bring(layer.clone())
                .await
                .map_err(|error| error.during(format!("layer {}", layer.name)))?
        };
        if let Some(below) = below {
            below.await?;
        }
        let place = layer.place.clone();
        let images = Arc::clone(&self);
        let committed = blocking(move || {
            brought.staged.commit(&place, &brought.unpacked)?;
            match brought.blob {
                Some(blob) if images.keeps_blobs() => drop(images.content.keep(&blob)?),
                Some(blob) => blob.discard(),
                None => {}
            }
            Ok(())
        });
        committed
            .await
            .map_err(|error| error.during(format!("layer {}", layer.name)))?;
        layer.tell(&progress, Stage::Done, layer.size);
        Ok(())
    }
}
