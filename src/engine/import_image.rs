//! `corten image import`: images of an archive become images of the node, by the same way as a
//! pull: all layers at once, verified, then the record.

use std::{fs::File, io::Read, path::Path, sync::Arc};

use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use sha2::{Digest as _, Sha256};

use super::{
    blocking,
    fetch_layer::unpack_error,
    image_archive::{ArchivedImage, ImageArchive},
    image_layers::{Bring, Brought, ProgressSink, WantedLayer, chains},
    images::Images,
    keep_blobs::blobs_of,
};
use crate::{
    content::{Content, Partial},
    error::{Context, Error, Kind, Result},
    id::{Digest, ImageId, ImageRef},
    model::image::{Image, ImageRecord, Manifest, Stage},
    unpack,
};

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;

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
        let (from, scratch) = (path.to_owned(), self.layers.directory().to_owned());
        let opened = blocking(move || ImageArchive::open(&from, &scratch));
        let archive = opened.await.map_err(failed)?;
        let imported = self.import_all(archive, names, progress).await;
        imported.map_err(failed)
    }

    /// A file without a name for an archive that is sent: `import_sent` takes it.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub async fn scratch(self: &Arc<Self>) -> Result<File> {
        let directory = self.layers.directory().to_owned();
        let made = blocking(move || {
            unpack::scratch_file(&directory).context(Kind::Internal, || {
                format!("make a file in {}", directory.display())
            })
        });
        made.await
    }

    /// Imports all images of an archive in a file of [`Images::scratch`].
    ///
    /// # Errors
    /// As [`Images::import`].
    pub async fn import_sent(
        self: &Arc<Self>,
        archive: File,
        names: &[ImageRef],
        progress: ProgressSink,
    ) -> Result<Vec<Arc<Image>>> {
        let failed = |error: Error| error.during("import what was sent");
        let scratch = self.layers.directory().to_owned();
        let opened = blocking(move || ImageArchive::of(archive, &scratch));
        let archive = opened.await.map_err(failed)?;
        let imported = self.import_all(archive, names, progress).await;
        imported.map_err(failed)
    }

    async fn import_all(
        self: &Arc<Self>,
        archive: ImageArchive,
        names: &[ImageRef],
        progress: ProgressSink,
    ) -> Result<Vec<Arc<Image>>> {
        let platform = self.platform.clone();
        let read = blocking(move || {
            let images = archive.images(&platform)?;
            Ok((Arc::new(archive), images))
        });
        let (archive, mut images) = read.await?;
        rename(&mut images, names)?;
        let mut imported = Vec::with_capacity(images.len());
        for image in images {
            imported.push(self.import_one(&archive, image, &progress).await?);
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
        let unfinished = self.begin_pull(&record.manifest, &layers).await?;
        let import = Arc::new(import);
        let from = Arc::clone(&import);
        let ensured = self.ensure_layers(&layers, &from, progress);
        let kept = async {
            match self.keeps_blobs() {
                true => blocking(move || import.keep_blobs()).await,
                false => Ok(()),
            }
        };
        let stored = async {
            ensured.and_then(|()| kept).await?;
            self.store(record, blobs).await
        };
        let stored = stored.await;
        unfinished.end().await;
        stored
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
    /// Keeps the blobs of the image as they are in the archive. Of a docker-archive that has the layers
    /// without their manifest, those that are not compressed are the blobs of the manifest that is made up.
    fn keep_blobs(&self) -> Result<()> {
        let Manifest::Image(manifest) = Manifest::parse(&self.image.manifest)? else {
            return Ok(());
        };
        for (digest, size) in blobs_of(&manifest) {
            let content = &self.images.content;
            if content.has(&digest, size) {
                continue;
            }
            let member = match self.image.members.get(&digest) {
                Some(name) => self.archive.member(name)?,
                None if digest == Digest::of(&self.image.config) => continue,
                None => self.archive.blob_member(&digest)?,
            };
            let (Some((reader, _)), Some(partial)) = (member, content.partial(&digest, size)?)
            else {
                continue;
            };
            keep(content, reader, &digest, &partial)?;
        }
        Ok(())
    }

    fn unpack(&self, layer: &WantedLayer) -> Result<Brought> {
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
        let (tree, expected) = (staged.tree(), layer.expected(&policy));
        let unpacked = match &layer.file {
            Some(name) => unpack::unpack_file(reader, &tree, &expected, name),
            None => unpack::unpack(reader, &tree, &expected),
        };
        let unpacked = unpacked.map_err(unpack_error)?;
        Ok(Brought {
            staged,
            unpacked,
            blob: None,
        })
    }
}

impl Bring for Import {
    fn bring(self: Arc<Self>, layer: WantedLayer) -> BoxFuture<'static, Result<Brought>> {
        blocking(move || self.unpack(&layer)).boxed()
    }
}

/// Copies a blob into the store, if it is the one that it is called.
fn keep(
    content: &Content,
    mut reader: impl Read,
    digest: &Digest,
    partial: &Partial,
) -> Result<()> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    // What an earlier one has left may be anything.
    partial.begin_again()?;
    loop {
        let read = reader.read(&mut piece);
        let read = read.context(Kind::Internal, || format!("read blob {digest}"))?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        partial.append(&piece[..read]);
    }
    match Digest::finish(hash) == *digest {
        true => drop(content.keep(partial)?),
        false => partial.discard(),
    }
    Ok(())
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
    let target = image.named.as_ref().map(|named| &named.digest);
    let tagged = image.names.iter().cloned().zip(target.into_iter().cycle());
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
        tagged: tagged.map(|(tag, digest)| (tag, digest.clone())).collect(),
        removed: false,
    }
}

#[cfg(test)]
mod tests;
