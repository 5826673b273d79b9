//! RemoveImage: gone for every caller when it returns, and from the disk soon after.

use std::sync::Arc;

use super::images::Images;
use crate::{error::Result, id::ImageId, model::image::ImageRecord};

/// What a removal took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedImage {
    /// The image.
    pub id: ImageId,
    /// All names that it had.
    pub references: Vec<String>,
}

impl Images {
    /// Removes the image of any name with all its names; `None` where there is none, which is no
    /// failure. Containers keep what they run on.
    ///
    /// # Errors
    /// `InvalidArgument` where the name is the beginning of several ids; where the record cannot
    /// be removed.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<Option<RemovedImage>> {
        let Some(record) = self.drop_image(name).await? else {
            return Ok(None);
        };
        tracing::info!(image.id = %record.id, tags = ?record.tags, "image removed");
        self.reclaim_soon();
        Ok(Some(RemovedImage {
            references: references(&record),
            id: record.id,
        }))
    }
}

fn references(record: &ImageRecord) -> Vec<String> {
    record
        .tags
        .iter()
        .chain(&record.digests)
        .map(ToString::to_string)
        .collect()
}
