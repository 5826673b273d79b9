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
};
use crate::{
    error::{Error, Result},
    id::{ChainId, Digest},
    model::{
        image::{ImageManifest, Progress, Stage, chain_ids},
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
    });
    Ok(layers.collect())
}

/// The chain ids of layers, bottom first.
pub(super) fn chains(layers: &[WantedLayer]) -> Vec<ChainId> {
    layers
        .iter()
        .map(|layer| layer.place.chain.clone())
        .collect()
}

/// Brings the bytes of a layer into a staged tree.
pub(super) trait Bring: Send + Sync {
    /// Unpacks the layer, verified.
    fn bring(self: Arc<Self>, layer: WantedLayer)
    -> BoxFuture<'static, Result<(Staged, Unpacked)>>;
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
        let (staged, unpacked) = {
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
        let committed = blocking(move || Ok(staged.commit(&place, &unpacked)?)).await;
        committed.map_err(|error| error.during(format!("layer {}", layer.name)))?;
        layer.tell(&progress, Stage::Done, layer.size);
        Ok(())
    }
}
