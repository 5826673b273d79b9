//! A pull that is cut off, by a kill of the daemon or by its caller, keeps what it has fetched for the
//! next one: layers that are whole, and the beginnings of large blobs.
//!
//! Invariant: what nobody comes back to is reclaimed after a while, by a daemon that runs as at a
//! start.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tracing::warn;

use super::{blocking, image_layers::WantedLayer, images::Images};
use crate::{
    content::{KEPT, Needs},
    error::Result,
    id::Digest,
};

/// A pull under way; dropped before its end it is remembered.
pub(super) struct UnfinishedPull {
    images: Arc<Images>,
    /// `None`: nothing was noted.
    manifest: Option<Digest>,
}

impl UnfinishedPull {
    /// The pull has succeeded, or failed.
    pub async fn end(mut self) {
        let Some(manifest) = self.manifest.take() else {
            return;
        };
        let content = Arc::clone(&self.images.content);
        let ended = blocking(move || Ok(content.end_pull(&manifest)?)).await;
        if let Err(error) = ended {
            let error = error.chain();
            warn!(
                error,
                "an ended pull is still noted; what it fetched stays for an hour"
            );
        }
    }
}

impl Drop for UnfinishedPull {
    fn drop(&mut self) {
        if self.manifest.is_some() {
            self.images.reclaim_later();
        }
    }
}

impl Images {
    /// Notes what a pull is going to fetch; nothing where all of it is there.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub(super) async fn begin_pull(
        self: &Arc<Self>,
        manifest: &Digest,
        layers: &[WantedLayer],
    ) -> Result<UnfinishedPull> {
        let keeps = self.keeps_blobs();
        let fetched = |layer: &&WantedLayer| keeps || !self.layers.is_there(&layer.place.chain);
        let blobs = layers.iter().filter(fetched);
        let needs = Needs {
            blobs: blobs.map(|layer| layer.name.clone()).collect(),
            layers: layers.iter().map(|it| it.place.chain.clone()).collect(),
        };
        let manifest = (!needs.blobs.is_empty()).then(|| manifest.clone());
        if let Some(manifest) = manifest.clone() {
            let content = Arc::clone(&self.content);
            blocking(move || Ok(content.begin_pull(&manifest, &needs)?)).await?;
        }
        Ok(UnfinishedPull {
            images: Arc::clone(self),
            manifest,
        })
    }

    /// Reclaims what a pull without success has left, once nobody has come back to it.
    pub fn reclaim_later(self: &Arc<Self>) {
        // Where the runtime ends the next start does it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.sweeping.swap(true, Ordering::SeqCst) {
            return;
        }
        let images = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep(KEPT + Duration::from_secs(1)).await;
            let Some(images) = images.upgrade() else {
                return;
            };
            images.sweeping.store(false, Ordering::SeqCst);
            images.reclaim_soon();
            // One that began meanwhile is younger.
            let content = Arc::clone(&images.content);
            let left = blocking(move || Ok(content.unfinished()?)).await;
            if left.is_ok_and(|needs| !needs.layers.is_empty()) {
                images.reclaim_later();
            }
        });
    }
}
