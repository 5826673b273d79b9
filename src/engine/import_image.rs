//! `corten image import`: images of an archive become images of the node, by the same way as a
//! pull: all layers at once, verified, then the record.

use std::{path::Path, sync::Arc};

use futures::{FutureExt, future::BoxFuture};

use super::{
    blocking,
    fetch_layer::unpack_error,
    image_archive::{ArchivedImage, ImageArchive},
    image_layers::{Bring, ProgressSink, WantedLayer, chains},
    images::Images,
};
use crate::{
    error::{Error, Result},
    id::{Digest, ImageId, ImageRef},
    model::image::{Image, ImageRecord, Stage},
    snapshot::Staged,
    unpack::{self, Unpacked},
};

impl Images {
    /// Imports all images of an archive (docker-archive, oci-archive or an OCI layout, also
    /// compressed). `names`, where given, take the place of the archive's: one for each image.
    ///
    /// # Errors
    /// `InvalidArgument` where the archive cannot be used or the names do not fit.
    pub async fn import(
        self: &Arc<Self>,
        path: &Path,
        names: &[ImageRef],
        progress: ProgressSink,
    ) -> Result<Vec<Arc<Image>>> {
        let failed = |error: Error| error.during(format!("import {}", path.display()));
        let (from, scratch, platform) = (
            path.to_owned(),
            self.layers.directory().to_owned(),
            self.platform.clone(),
        );
        let opened = blocking(move || {
            let archive = ImageArchive::open(&from, &scratch)?;
            let images = archive.images(&platform)?;
            Ok((Arc::new(archive), images))
        });
        let (archive, mut images) = opened.await.map_err(failed)?;
        rename(&mut images, names).map_err(failed)?;
        let mut imported = Vec::with_capacity(images.len());
        for image in images {
            imported.push(
                self.import_one(&archive, image, &progress)
                    .await
                    .map_err(failed)?,
            );
        }
        Ok(imported)
    }

    async fn import_one(
        self: &Arc<Self>,
        archive: &Arc<ImageArchive>,
        image: ArchivedImage,
        progress: &ProgressSink,
    ) -> Result<Arc<Image>> {
        let _pins = self.pin(&chains(&image.layers));
        let record = record(&image);
        let blobs = vec![
            (record.id.0.clone(), image.config.clone()),
            (record.manifest.clone(), image.manifest.clone()),
        ];
        let layers = image.layers.clone();
        let import = Import {
            images: Arc::clone(self),
            archive: Arc::clone(archive),
            image,
            progress: Arc::clone(progress),
        };
        self.ensure_layers(&layers, &Arc::new(import), progress)
            .await?;
        self.store(record, blobs).await
    }
}

/// One image on its way in.
struct Import {
    images: Arc<Images>,
    archive: Arc<ImageArchive>,
    image: ArchivedImage,
    progress: ProgressSink,
}

impl Import {
    fn unpack(&self, layer: &WantedLayer) -> Result<(Staged, Unpacked)> {
        let member = self
            .image
            .members
            .get(&layer.name)
            .map(|name| self.archive.member(name))
            .transpose()?;
        let Some((reader, _)) = member.flatten() else {
            return Err(Error::invalid(format!(
                "the archive has no layer {}",
                layer.name
            )));
        };
        layer.tell(&self.progress, Stage::Unpacking, 0);
        let policy = self.images.policy().unpacking;
        let staged = self.images.layers.begin()?;
        let unpacked = unpack::unpack(reader, &staged.tree(), &layer.expected(&policy))
            .map_err(unpack_error)?;
        Ok((staged, unpacked))
    }
}

impl Bring for Import {
    fn bring(
        self: Arc<Self>,
        layer: WantedLayer,
    ) -> BoxFuture<'static, Result<(Staged, Unpacked)>> {
        blocking(move || self.unpack(&layer)).boxed()
    }
}

/// Gives the images the names that were asked for.
fn rename(images: &mut [ArchivedImage], names: &[ImageRef]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
        return Err(Error::invalid(format!(
            "{name} cannot be given to an import: a digest is not chosen"
        )));
    }
    match images {
        [one] => one.names = names.to_vec(),
        _ if images.len() == names.len() => images
            .iter_mut()
            .zip(names)
            .for_each(|(image, name)| image.names = vec![name.clone()]),
        _ => {
            return Err(Error::invalid(format!(
                "{} names for the archive's {} images",
                names.len(),
                images.len()
            )));
        }
    }
    Ok(())
}

fn record(image: &ArchivedImage) -> ImageRecord {
    let digests = image.named.iter().flat_map(|target| {
        image
            .names
            .iter()
            .map(|name| name.with_digest(target.digest.clone()))
    });
    ImageRecord {
        id: ImageId(Digest::of(&image.config)),
        tags: image.names.iter().cloned().collect(),
        digests: digests.collect(),
        manifest: Digest::of(&image.manifest),
        layers: chains(&image.layers),
        targets: image.named.iter().cloned().collect(),
        removed: false,
    }
}

#[cfg(test)]
mod tests;
