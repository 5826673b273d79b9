//! The images of the node: what List and Status answer from, and who needs which layer.
//!
//! ```text
//! pull, import ──▶ pins on chain ids ──▶ layers ──▶ record on disk ──▶ index (visible)
//! remove ──▶ index (gone) ──▶ record off the disk ──▶ reclaim ──▶ trash
//! ```
//! Invariants: an image in the index is whole; what it shows is on disk before. A layer stays
//! while an image, a container (`hold`) or a pull under way (`pin`) needs it. Changes of records go
//! one after the other (`changes`); readers never wait for the disk.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, PoisonError, RwLock, atomic::AtomicBool},
};

use tokio::sync::{Mutex, Semaphore};
use tracing::{info, warn};

use super::{
    blocking, flights::Flights, image_index::Index, image_policy::ImagePolicy, keep_blobs::named_by,
};
use crate::{
    content::Content,
    error::{Context, Error, Kind, Result},
    id::{ChainId, ContainerId, Digest, ImageId, ImageRef},
    model::{
        artifact::artifact_type,
        credentials::Credentials,
        image::{Image, ImageConfig, ImageConfigFile, ImageRecord, Manifest, Platform},
    },
    registry::Registry,
    snapshot::Layers,
};

/// The image side of the runtime.
pub struct Images {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) content: Arc<Content>,
    pub(super) layers: Arc<Layers>,
    pub(super) platform: Platform,
    pub(super) pulls: Flights<(ImageRef, Credentials), ImageId>,
    pub(super) unpacks: Flights<ChainId, ()>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) policy: RwLock<ImagePolicy>,
    pub(super) sweeping: AtomicBool,
    state: RwLock<Index>,
    changes: Mutex<()>,
    pub(super) syncing: Mutex<()>,
}

/// Layers that a pull or an import needs until its image is in the index.
pub(super) struct Pins {
    images: Arc<Images>,
    chains: Vec<ChainId>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.images.write();
        for chain in &self.chains {
            if let Some(count) = state.pins.get_mut(chain) {
                *count -= 1;
            }
        }
        state.pins.retain(|_, count| *count > 0);
    }
}

/// What kind of artifact a manifest is of.
fn kind_of(manifest: &[u8]) -> Result<String> {
    let kind = match Manifest::parse(manifest)? {
        Manifest::Image(manifest) => artifact_type(&manifest).map(str::to_owned),
        Manifest::Index(_) => None,
    };
    kind.ok_or_else(|| Error::internal("the manifest is not that of an artifact"))
}

impl Images {
    /// Takes up the images that are on disk. Nothing is reclaimed before [`Images::reclaim`] is
    /// called, so that containers can be given their [`Images::hold`] again first. So many
    /// `downloads` run at the same time, of all pulls together; the rest waits.
    ///
    /// # Errors
    /// Where the records cannot be listed.
    pub fn open(
        registry: Arc<dyn Registry>,
        content: Arc<Content>,
        layers: Arc<Layers>,
        pinned: Vec<String>,
        downloads: usize,
    ) -> Result<Arc<Self>> {
        let images = Arc::new(Self {
            registry,
            content,
            layers,
            platform: Platform::host(),
            pulls: Flights::default(),
            unpacks: Flights::default(),
            slots: Arc::new(Semaphore::new(downloads)),
            policy: RwLock::default(),
            sweeping: AtomicBool::new(false),
            state: RwLock::new(Index::new(pinned)),
            changes: Mutex::default(),
            syncing: Mutex::default(),
        });
        for record in images.content.records()? {
            images.take_in(record);
        }
        Ok(images)
    }

    fn take_in(&self, record: ImageRecord) {
        let id = record.id.clone();
        if record.removed {
            self.write().removed.insert(id, record);
            return;
        }
        match self.assemble(&record) {
            Ok(image) => self.write().show(image),
            Err(error) => {
                let reason = error.chain();
                warn!(image.id = %id, reason, "image is incomplete; it is fetched again when it is pulled");
                self.write().incomplete.insert(id, (record, reason));
            }
        }
    }

    /// The image of a record, all of whose parts have to be there. Reads the disk.
    fn assemble(&self, record: &ImageRecord) -> Result<Image> {
        let manifest = self.content.get(&record.manifest)?;
        let (config, artifact) = match record.is_artifact() {
            true => (ImageConfig::default(), Some(kind_of(&manifest)?)),
            false => (self.config_of(&record.id)?, None),
        };
        let blobs: BTreeSet<_> = [&record.id.0, &record.manifest].into();
        let mut size = blobs
            .into_iter()
            .map(|digest| self.content.blob_size(digest))
            .sum();
        for chain in &record.layers {
            let layer = self.layers.get(chain);
            size += layer
                .ok_or_else(|| Error::internal(format!("layer {chain} is missing")))?
                .usage
                .bytes;
        }
        Ok(Image {
            record: record.clone(),
            config,
            artifact,
            size,
            pinned: false,
        })
    }

    fn config_of(&self, id: &ImageId) -> Result<ImageConfig> {
        let bytes = self.content.get(&id.0)?;
        let file: ImageConfigFile = serde_json::from_slice(&bytes)
            .context(Kind::Internal, || {
                format!("the config of image {id} is not valid")
            })?;
        Ok(file.config)
    }

    /// Adds names to an image whose layers are pinned, makes it known and takes its tags from
    /// whoever had them.
    ///
    /// # Errors
    /// Where the record cannot be written.
    pub(super) async fn store(
        self: &Arc<Self>,
        record: ImageRecord,
        blobs: Vec<(Digest, Vec<u8>)>,
    ) -> Result<Arc<Image>> {
        let _one = self.changes.lock().await;
        let images = Arc::clone(self);
        let image = blocking(move || images.store_blocking(record, &blobs)).await?;
        info!(image.id = %image.record.id, tags = ?image.record.tags, size = image.size, "image stored");
        self.settle();
        Ok(image)
    }

    fn store_blocking(
        &self,
        mut record: ImageRecord,
        blobs: &[(Digest, Vec<u8>)],
    ) -> Result<Arc<Image>> {
        for (digest, bytes) in blobs {
            self.content.put(digest, bytes)?;
        }
        let (before, losers) = self.read().touched_by(&record);
        if let Some(before) = before {
            record.remember(before);
        }
        let image = self.assemble(&record)?;
        self.content.save(&record)?;
        for loser in &losers {
            self.content.save(&loser.record)?;
        }
        let mut state = self.write();
        losers.into_iter().for_each(|loser| state.show(loser));
        let id = image.record.id.clone();
        state.show(image);
        Ok(Arc::clone(&state.images[&id]))
    }

    /// Shows an image that missed something and is whole now, through another's pull.
    ///
    /// # Errors
    /// Where it still misses something.
    pub(super) async fn show_again(self: &Arc<Self>, id: &ImageId) -> Result<()> {
        let _one = self.changes.lock().await;
        let (images, id) = (Arc::clone(self), id.clone());
        blocking(move || {
            let missed = images.read().incomplete.get(&id).cloned();
            if let Some((record, _)) = missed {
                let image = images.assemble(&record)?;
                images.write().show(image);
            }
            Ok(())
        })
        .await
    }

    /// Whether a pull or an import is under way.
    pub(super) fn is_pulling(&self) -> bool {
        !self.read().pins.is_empty()
    }

    /// Keeps these layers from being reclaimed while a pull works on them.
    pub(super) fn pin(self: &Arc<Self>, chains: &[ChainId]) -> Pins {
        let mut state = self.write();
        for chain in chains {
            *state.pins.entry(chain.clone()).or_default() += 1;
        }
        Pins {
            images: Arc::clone(self),
            chains: chains.to_vec(),
        }
    }

    /// The image of any of its names: an id, a unique beginning of one, a tag, a digest. A name
    /// that is none names no image.
    ///
    /// # Errors
    /// `InvalidArgument` where several ids begin like that.
    pub fn status(&self, name: &str) -> Result<Option<Arc<Image>>> {
        let state = self.read();
        let Some(id) = self.meant(&state, name)? else {
            return Ok(None);
        };
        Ok(state.images.get(&id).cloned())
    }

    /// The image of a name, also of a short one that the node's files explain.
    fn meant(&self, state: &Index, name: &str) -> Result<Option<ImageId>> {
        let names = self.registry.names(name).unwrap_or_default();
        match names.iter().find_map(|name| state.named(name)) {
            Some(id) => Ok(Some(id)),
            None => state.find(name),
        }
    }

    /// The config blob of an image as it was pulled, or an artifact's manifest, for verbose answers.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn config_json(&self, id: &ImageId) -> Result<String> {
        let (content, id) = (Arc::clone(&self.content), id.clone());
        let bytes = blocking(move || Ok(content.get(&id.0)?)).await?;
        String::from_utf8(bytes).context(Kind::Internal, || {
            "the image's config is no text".to_owned()
        })
    }

    /// Keeps an image's layers while a container is there, also when the image is removed; one
    /// container can hold several. At start every container holds again.
    ///
    /// # Errors
    /// `NotFound` where the image is gone.
    pub fn hold(&self, container: &ContainerId, image: &ImageId) -> Result<()> {
        let mut state = self.write();
        if !state.images.contains_key(image) && !state.removed.contains_key(image) {
            return Err(Error::not_found(format!(
                "image {image} is not on this node; pull it first"
            )));
        }
        let held = state.holds.entry(container.clone()).or_default();
        held.insert(image.clone());
        Ok(())
    }

    /// The layers of an image that a container holds, the bottom one first.
    ///
    /// # Errors
    /// `NotFound` where nobody holds it and it is gone.
    pub fn held_layers(&self, image: &ImageId) -> Result<Vec<ChainId>> {
        let state = self.read();
        let shown = state.images.get(image).map(|image| &image.record);
        let record = shown.or_else(|| state.removed.get(image));
        let gone = || Error::not_found(format!("image {image} is not on this node"));
        record.map(|record| record.layers.clone()).ok_or_else(gone)
    }

    /// The container is gone. What only it needed is reclaimed in the background.
    pub fn release(self: &Arc<Self>, container: &ContainerId) {
        let removed = {
            let mut state = self.write();
            let images = state.holds.remove(container).unwrap_or_default();
            images.iter().any(|image| state.removed.contains_key(image))
        };
        if removed || self.layers.has_replaced() {
            self.reclaim_soon();
        }
    }

    /// Replaces the patterns of images that the kubelet must not collect.
    pub fn set_pinned(&self, patterns: Vec<String>) {
        let mut state = self.write();
        state.pinned = patterns;
        let images: Vec<_> = state
            .images
            .values()
            .map(|image| Image::clone(image))
            .collect();
        images.into_iter().for_each(|image| state.show(image));
    }

    pub(super) fn reclaim_soon(self: &Arc<Self>) {
        let images = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = images.reclaim().await {
                warn!(
                    error = error.chain(),
                    "space not reclaimed; the next removal tries again"
                );
            }
        });
    }

    /// Throws away layers and blobs that nothing needs. Called at start too, once containers have
    /// their holds.
    ///
    /// # Errors
    /// Where something cannot be removed.
    pub async fn reclaim(self: &Arc<Self>) -> Result<()> {
        let _one = self.changes.lock().await;
        let images = Arc::clone(self);
        blocking(move || images.reclaim_blocking()).await
    }

    fn reclaim_blocking(self: &Arc<Self>) -> Result<()> {
        for id in self.write().unheld() {
            self.content.forget(&id)?;
        }
        // First: what a pull keeps from now on is not among them, and not removed.
        let blobs = self.content.blobs()?;
        let needs = self.content.unfinished()?;
        self.content.sweep_partials(&needs)?;
        let (leaving, used) = {
            // Under the lock: a pull that pins a layer now must find it, or find it gone. The disk
            // comes after it.
            let state = self.write();
            let (used, mut unused) = (state.used_layers(), self.layers.all());
            unused.retain(|layer| !used.contains(&layer.chain));
            unused.retain(|layer| !needs.layers.contains(&layer.chain));
            let unused = unused.into_iter().map(|layer| layer.chain).collect();
            (self.layers.forget(unused), state.used_blobs())
        };
        leaving.discard()?;
        self.layers
            .discard_replaced(|| self.read().layers_at_hand())?;
        let unused = |blob: &Digest| !used.contains(blob) && !needs.blobs.contains(blob);
        let blobs: Vec<_> = blobs.into_iter().filter(unused).collect();
        if blobs.is_empty() {
            return Ok(());
        }
        let named = named_by(&self.content, &self.records());
        for blob in blobs.iter().filter(|blob| !named.contains(*blob)) {
            self.content.remove(blob)?;
        }
        Ok(())
    }

    /// Takes an image out of the index and its record off the disk, or marks it where containers
    /// hold it; gives what it was.
    pub(super) async fn drop_image(self: &Arc<Self>, name: &str) -> Result<Option<ImageRecord>> {
        let _one = self.changes.lock().await;
        let Some(id) = self.meant(&self.read(), name)? else {
            return Ok(None);
        };
        let Some((record, held)) = self.write().hide(&id) else {
            return Ok(None);
        };
        let (content, kept) = (
            Arc::clone(&self.content),
            ImageRecord {
                removed: true,
                ..record.clone()
            },
        );
        blocking(move || {
            // A kill after the image was stored has left its pull without an end.
            content.end_pull(&kept.manifest)?;
            match held {
                true => Ok(content.save(&kept)?),
                false => Ok(content.forget(&kept.id)?),
            }
        })
        .await?;
        Ok(Some(record))
    }

    /// All images.
    pub(super) fn all(&self) -> Vec<Arc<Image>> {
        self.read().images.values().cloned().collect()
    }

    /// The records of all images that are not removed, also of those that miss something.
    pub(super) fn records(&self) -> Vec<ImageRecord> {
        let state = self.read();
        let shown = state.images.values().map(|image| image.record.clone());
        let incomplete = state.incomplete.values().map(|(record, _)| record.clone());
        shown.chain(incomplete).collect()
    }

    /// Images that miss something, and what.
    pub(super) fn incomplete(&self) -> Vec<(ImageId, String)> {
        let state = self.read();
        state
            .incomplete
            .iter()
            .map(|(id, (_, reason))| (id.clone(), reason.clone()))
            .collect()
    }

    /// Layers that an image, a container or a pull needs.
    pub(super) fn used_layers(&self) -> HashSet<ChainId> {
        self.read().used_layers()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
