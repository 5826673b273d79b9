//! Checks the store against its records: blobs by their digest, layers by their presence.
//!
//! Deliberately absent: the content of layers' files is not compared with anything yet.

use std::sync::Arc;

use super::{blocking, images::Images};
use crate::{
    error::{Error, Kind, Result},
    id::{Digest, ImageId},
    model::image::Image,
};

/// In which way something stored is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A record names it, and it is not there.
    Missing,
    /// It is there with other content.
    Changed,
    /// It is there and no record names it.
    Orphan,
    /// It cannot be read.
    Unreadable,
}

/// One thing in the store that is not as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In which way.
    pub fault: Fault,
    /// The image that it belongs to; `None` for an orphan.
    pub image: Option<ImageId>,
    /// The blob or layer; `None` where the image as a whole is meant.
    pub digest: Option<Digest>,
    /// For a person.
    pub detail: String,
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Images looked at.
    pub images: u64,
    /// Layers looked at.
    pub layers: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl Images {
    /// Checks the images of these names, or the whole store with its orphans.
    ///
    /// # Errors
    /// `NotFound` where a name names no image.
    pub async fn check(self: &Arc<Self>, names: &[String]) -> Result<CheckReport> {
        let chosen = match names {
            [] => self.all(),
            _ => names
                .iter()
                .map(|name| self.named(name))
                .collect::<Result<_>>()?,
        };
        let (images, whole) = (Arc::clone(self), names.is_empty());
        blocking(move || {
            let mut report = CheckReport::default();
            chosen
                .iter()
                .for_each(|image| images.check_image(image, &mut report));
            if whole {
                images.check_store(&mut report)?;
            }
            Ok(report)
        })
        .await
    }

    fn named(&self, name: &str) -> Result<Arc<Image>> {
        self.status(name)?
            .ok_or_else(|| Error::not_found(format!("no image {name}")))
    }

    fn check_image(&self, image: &Image, report: &mut CheckReport) {
        report.images += 1;
        let record = &image.record;
        let mut find = |fault, digest: &Digest, detail: String| {
            let (image, digest) = (Some(record.id.clone()), Some(digest.clone()));
            report.findings.push(Finding {
                fault,
                image,
                digest,
                detail,
            });
        };
        for digest in [&record.id.0, &record.manifest] {
            match self
                .content
                .get(digest)
                .map_err(|error| (error.kind(), Error::from(error)))
            {
                Ok(bytes) => report.bytes += bytes.len() as u64,
                Err((Kind::NotFound, error)) => find(Fault::Missing, digest, error.chain()),
                Err((_, error)) => find(Fault::Changed, digest, error.chain()),
            }
        }
        for chain in &record.layers {
            report.layers += 1;
            match self.layers.trees(std::slice::from_ref(chain)) {
                Ok(trees) if trees.iter().all(|tree| tree.is_dir()) => {}
                _ => find(
                    Fault::Missing,
                    &chain.0,
                    "remove the image and pull it again".into(),
                ),
            }
        }
    }

    /// What belongs to no image, and images that are not shown.
    fn check_store(&self, report: &mut CheckReport) -> Result<()> {
        for (id, detail) in self.incomplete() {
            report.findings.push(Finding {
                fault: Fault::Missing,
                image: Some(id),
                digest: None,
                detail,
            });
        }
        let used = self.used_layers();
        for layer in self
            .layers
            .all()
            .into_iter()
            .filter(|layer| !used.contains(&layer.chain))
        {
            let detail = "a layer of no image; the next removal reclaims it".to_owned();
            report.findings.push(Finding {
                fault: Fault::Orphan,
                image: None,
                digest: Some(layer.chain.0),
                detail,
            });
        }
        Ok(())
    }
}
