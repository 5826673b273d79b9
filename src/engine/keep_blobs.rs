//! `keep_blobs`: the blobs of an image stay as they came, so that the image can be exported bit for
//! bit.
//!
//! What is unpacked from the wire goes over the disk on its way (`content/partial.rs`) and is kept at
//! the commit. What was there before the node kept blobs is fetched once more, without unpacking it.
//! Invariant: a blob stays while an image has a manifest that names it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::try_join_all;

use super::{blocking, images::Images, pull_image::Pull};
use crate::{
    content::Content,
    error::{Error, Result},
    id::Digest,
    model::image::{Descriptor, ImageManifest, ImageRecord, Manifest},
};

/// Somebody else writes the blob just now.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A blob's digest and size.
pub(super) type Named = (Digest, u64);

/// The blobs that a manifest names, each once.
pub(super) fn blobs_of(manifest: &ImageManifest) -> Vec<Named> {
    let named = |blob: &Descriptor| (blob.digest.clone(), blob.size);
    let all = manifest.layers.iter().chain([&manifest.config]).map(named);
    all.collect::<BTreeMap<_, _>>().into_iter().collect()
}

impl Pull {
    /// Fetches those of an image's blobs that are not kept yet.
    ///
    /// # Errors
    /// As the registry and the disk say, with the blob.
    pub(super) async fn keep_blobs(&self, blobs: Vec<Named>) -> Result<()> {
        let missing = self.images.not_kept(blobs).await?;
        let kept = missing.iter().map(|blob| self.keep_blob(blob));
        try_join_all(kept).await.map(drop)
    }

    async fn keep_blob(&self, blob: &Named) -> Result<()> {
        let slot = self.images.slots.acquire().await;
        let _slot = slot.map_err(|_| Error::internal("the daemon is ending"))?;
        loop {
            let Some(partial) = self.partial(blob).await? else {
                tokio::time::sleep(LOOK_AGAIN).await;
                if self.images.not_kept(vec![blob.clone()]).await?.is_empty() {
                    return Ok(());
                }
                continue;
            };
            let fetched = self.fetch_blob(blob, partial).await;
            return fetched.map_err(|error| error.during(format!("keep blob {}", blob.0)));
        }
    }
}

impl Images {
    /// Whether blobs stay.
    pub(super) fn keeps_blobs(&self) -> bool {
        self.policy().keep_blobs
    }

    /// Those of these blobs that the store does not have.
    pub(super) async fn not_kept(&self, mut blobs: Vec<Named>) -> Result<Vec<Named>> {
        let content = Arc::clone(&self.content);
        blocking(move || {
            blobs.retain(|(digest, size)| !content.has(digest, *size));
            Ok(blobs)
        })
        .await
    }
}

/// The blobs that the manifests of these images name. Reads them.
pub(super) fn named_by(content: &Content, records: &[ImageRecord]) -> HashSet<Digest> {
    let named = records.iter().flat_map(|record| named(content, record));
    named.map(|(digest, _)| digest).collect()
}

/// What may be kept of an image beside its manifest and its config. Reads the manifest.
pub(super) fn kept_of(content: &Content, record: &ImageRecord) -> Vec<Named> {
    let mut blobs = named(content, record);
    blobs.retain(|(digest, _)| *digest != record.id.0);
    blobs
}

/// Nothing of an image whose manifest cannot be read.
fn named(content: &Content, record: &ImageRecord) -> Vec<Named> {
    let bytes = content.get(&record.manifest);
    match bytes.map(|bytes| Manifest::parse(&bytes)) {
        Ok(Ok(Manifest::Image(manifest))) => blobs_of(&manifest),
        _ => Vec::new(),
    }
}
