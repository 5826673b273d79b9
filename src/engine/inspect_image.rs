//! `corten image inspect`: all that the node knows of one image.

use std::sync::Arc;

use super::images::Images;
use crate::{
    error::{Error, Result},
    model::image::Image,
    snapshot::LayerRecord,
};

/// An image with its parts.
#[derive(Debug, Clone)]
pub struct InspectedImage {
    /// The image.
    pub image: Arc<Image>,
    /// Its layers, the bottom one first.
    pub layers: Vec<LayerRecord>,
    /// Its config as it was pulled, JSON.
    pub config: String,
}

impl Images {
    /// The image of any name.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` where the name is the beginning of several ids; where the config
    /// cannot be read.
    pub async fn inspect(&self, name: &str) -> Result<InspectedImage> {
        let image = self.status(name)?;
        let image = image.ok_or_else(|| Error::not_found(format!("no image {name}")))?;
        let config = self.config_json(&image.record.id).await?;
        let layers = image.record.layers.iter();
        let layers = layers.filter_map(|chain| self.layers.get(chain)).collect();
        Ok(InspectedImage {
            image,
            layers,
            config,
        })
    }
}
