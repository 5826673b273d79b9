//! What the node's owner says of images: which are used at all, and how layers are unpacked.
//!
//! Invariant: who verifies is asked with the same name and target at the pull and at each use; an
//! image that came another way (an import) is judged when it is used first.

use std::sync::{Arc, PoisonError};

use super::images::Images;
use crate::{
    error::Result,
    id::ImageRef,
    model::{
        image::{Descriptor, Image, Manifest},
        image_policy::UnpackPolicy,
    },
    registry::Fetched,
    verifier::{Subject, Verifier},
};

/// The owner's rules.
#[derive(Clone, Default)]
pub struct ImagePolicy {
    /// Who is asked before an image is used; `None`: nobody.
    pub verifier: Option<Arc<dyn Verifier>>,
    /// What layers may hold.
    pub unpacking: UnpackPolicy,
    /// Blobs of layers stay, for exports.
    pub keep_blobs: bool,
}

impl Images {
    /// Replaces the rules; what is under way keeps the old ones.
    pub fn set_policy(&self, policy: ImagePolicy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// The rules that are in force.
    pub(super) fn policy(&self) -> ImagePolicy {
        let policy = self.policy.read();
        policy.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether what a name stands for may be pulled.
    pub(super) async fn verify_pull(&self, name: &ImageRef, top: &Fetched) -> Result<()> {
        let Some(verifier) = self.policy().verifier else {
            return Ok(());
        };
        let name = listed(name.clone());
        let target = Manifest::descriptor(&top.bytes, &top.digest);
        Ok(verifier.verify(&Subject { name, target }).await?)
    }

    /// Whether a container may be made of an image that is here, or see it. `asked` is the name by
    /// which the pod knows it, where that is one.
    ///
    /// # Errors
    /// `SignatureValidationFailed` where a verifier refuses it.
    pub(super) async fn verify_use(&self, image: &Image, asked: &str) -> Result<()> {
        match self.policy().verifier {
            Some(verifier) => Ok(verifier.verify(&self.subject(image, asked)?).await?),
            None => Ok(()),
        }
    }

    fn subject(&self, image: &Image, asked: &str) -> Result<Subject> {
        let record = &image.record;
        let names = self.registry.names(asked).unwrap_or_default();
        let known = |name: &ImageRef| record.tags.contains(name) || record.digests.contains(name);
        let name = names.into_iter().map(listed).find(known);
        let name = name.or_else(|| record.tags.first().cloned());
        let name = name.or_else(|| record.digests.first().cloned());
        let name = name.map_or_else(|| nameless(image), Ok)?;
        let digest = record.digest_of(&name);
        let known = record.targets.iter().find(|known| known.digest == *digest);
        let target = match known {
            Some(target) => target.clone(),
            None => self.manifest_of(image)?,
        };
        Ok(Subject { name, target })
    }

    fn manifest_of(&self, image: &Image) -> Result<Descriptor> {
        let digest = &image.record.manifest;
        let bytes = self.content.get(digest)?;
        Ok(Manifest::descriptor(&bytes, digest))
    }
}

/// The name as a record lists it: a digest decides over the tag beside it.
fn listed(name: ImageRef) -> ImageRef {
    match name.digest().cloned() {
        Some(digest) => name.with_digest(digest),
        None => name,
    }
}

/// An image that lost its names to others is known by what it is.
fn nameless(image: &Image) -> Result<ImageRef> {
    let local: ImageRef = "localhost/unnamed".parse()?;
    Ok(local.with_digest(image.record.manifest.clone()))
}
