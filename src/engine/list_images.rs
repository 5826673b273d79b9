//! ListImages: from memory.

use std::sync::Arc;

use super::images::Images;
use crate::{error::Result, model::image::Image};

impl Images {
    /// All images, or the one of any name that `filter` is.
    ///
    /// # Errors
    /// `InvalidArgument` where the filter is the beginning of several ids.
    pub fn list(&self, filter: Option<&str>) -> Result<Vec<Arc<Image>>> {
        match filter.filter(|name| !name.is_empty()) {
            Some(name) => Ok(self.status(name)?.into_iter().collect()),
            None => Ok(self.all()),
        }
    }
}
