//! `corten image export`: an OCI layout of images, blob for blob as they came from the registry.
//!
//! ```text
//! oci-layout  index.json  [manifest.json]  blobs/sha256/HEX …
//! ```
//! With `manifest.json` the same members are a docker-archive too, as Docker writes it since version 25. Sources: OCI image layout 1.1; Docker's image specification 1.2. Invariants: every blob is
//! verified while it is given out; what was planned is given whatever is removed meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    sync::Arc,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{blocking, images::Images};
use crate::{
    content::Content,
    error::{Context, Error, Kind, Result},
    id::{Digest, ImageRef},
    model::{
        artifact::artifact_type,
        image::{Image, ImageManifest, Manifest},
    },
};

/// Bytes are given out in pieces of this size.
const PIECE: usize = 256 << 10;
/// Full names, as containerd and BuildKit write them.
const FULL_NAME: &str = "io.containerd.image.name";
/// A tag, as the OCI layout has it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Which readers the layout is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveForm {
    /// Readers of OCI layouts.
    Oci,
    /// Readers of docker-archives too.
    Docker,
}

/// What is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportStep {
    /// A file begins.
    Member {
        /// Its name in the layout.
        name: String,
        /// Its bytes.
        size: u64,
    },
    /// Bytes of the file that began last.
    Data(Vec<u8>),
}

/// An export whose blobs are open.
pub struct Export {
    content: Arc<Content>,
    members: Vec<(String, Source)>,
}

enum Source {
    Bytes(Vec<u8>),
    Blob(Digest, File, u64),
}

/// An image that is exported.
struct Exported {
    image: Arc<Image>,
    names: BTreeSet<ImageRef>,
    manifest: ImageManifest,
    bytes: Vec<u8>,
}

impl Images {
    /// Opens all that an archive of these images needs. A name exports the image under it; an id, under
    /// all its names.
    ///
    /// # Errors
    /// `NotFound` for a name without image; `FailedPrecondition` where a blob was not kept.
    pub async fn export(self: &Arc<Self>, names: &[String], form: ArchiveForm) -> Result<Export> {
        let find = |name: &String| {
            let image = self.status(name)?;
            let image = image.ok_or_else(|| Error::not_found(format!("no image {name}")))?;
            let asked: Option<ImageRef> = name.parse().ok();
            let asked = asked.filter(|name| image.record.tags.contains(name));
            let names = asked.map_or_else(|| image.record.tags.clone(), |name| [name].into());
            Ok((image, names))
        };
        let found = names.iter().map(find).collect::<Result<Vec<_>>>()?;
        let content = Arc::clone(&self.content);
        blocking(move || Export::open(content, found, form)).await
    }
}

impl Export {
    fn open(
        content: Arc<Content>,
        found: Vec<(Arc<Image>, BTreeSet<ImageRef>)>,
        form: ArchiveForm,
    ) -> Result<Self> {
        let read = found
            .into_iter()
            .map(|(image, names)| read(&content, image, names));
        let images = read.collect::<Result<Vec<_>>>()?;
        let mut members = vec![
            (
                "oci-layout".to_owned(),
                text(&json!({"imageLayoutVersion": "1.0.0"})),
            ),
            ("index.json".to_owned(), text(&index(&images))),
        ];
        if form == ArchiveForm::Docker {
            members.push(("manifest.json".to_owned(), text(&docker_manifest(&images)?)));
        }
        for (name, source) in blobs(&content, &images)? {
            members.push((name, source));
        }
        Ok(Self { content, members })
    }

    /// Gives all of it out, in order; ends early where `give` says that nobody takes it. Blocks.
    ///
    /// # Errors
    /// Where a blob is damaged: it is dropped then, and the next pull of its image brings it again.
    pub fn write(self, mut give: impl FnMut(ExportStep) -> bool) -> Result<()> {
        for (name, source) in self.members {
            let size = match &source {
                Source::Bytes(bytes) => bytes.len() as u64,
                Source::Blob(_, _, size) => *size,
            };
            let began = give(ExportStep::Member { name, size });
            let goes_on = match source {
                _ if !began => false,
                Source::Bytes(bytes) => give(ExportStep::Data(bytes)),
                Source::Blob(digest, file, size) => {
                    copy(&self.content, &digest, file.take(size), &mut give)?
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The manifest of an image that is exported.
fn read(content: &Content, image: Arc<Image>, names: BTreeSet<ImageRef>) -> Result<Exported> {
    let bytes = content.get(&image.record.manifest)?;
    let Manifest::Image(manifest) = Manifest::parse(&bytes)? else {
        return Err(Error::internal(format!(
            "the manifest of image {} is an index",
            image.record.id
        )));
    };
    Ok(Exported {
        image,
        names,
        manifest,
        bytes,
    })
}

/// All blobs that the images name, each once, open.
fn blobs(content: &Content, images: &[Exported]) -> Result<BTreeMap<String, Source>> {
    let mut all = BTreeMap::new();
    for exported in images {
        let manifest = &exported.manifest;
        let digest = exported.image.record.manifest.clone();
        all.insert(blob_name(&digest), Source::Bytes(exported.bytes.clone()));
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            let opened = content.open_blob(&blob.digest)?;
            let opened = opened.filter(|(_, size)| *size == blob.size);
            let (file, size) = opened.ok_or_else(|| not_kept(exported, &blob.digest))?;
            let source = Source::Blob(blob.digest.clone(), file, size);
            all.insert(blob_name(&blob.digest), source);
        }
    }
    Ok(all)
}

fn not_kept(exported: &Exported, blob: &Digest) -> Error {
    let mut names = exported.names.iter().map(ToString::to_string);
    let name = names
        .next()
        .unwrap_or_else(|| exported.image.record.id.to_string());
    let layers = &exported.manifest.layers;
    let what = match layers.iter().position(|layer| layer.digest == *blob) {
        Some(number) => format!("layer {} of {} ({blob})", number + 1, layers.len()),
        None => format!("config {blob}"),
    };
    Error::precondition(format!(
        "image {name} cannot be exported: its {what} was unpacked, and its blob was not kept. Set `keep_blobs = true` below [images], reload the daemon (SIGHUP) and pull the image again"
    ))
}

/// Verified; false where nobody takes it.
fn copy(
    content: &Content,
    digest: &Digest,
    mut from: impl Read,
    give: &mut impl FnMut(ExportStep) -> bool,
) -> Result<bool> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece);
        let read = read.context(Kind::Internal, || format!("read blob {digest}"))?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        if !give(ExportStep::Data(piece[..read].to_vec())) {
            return Ok(false);
        }
    }
    let actual = Digest::finish(hash);
    if actual == *digest {
        return Ok(true);
    }
    content.remove(digest)?;
    Err(Error::internal(format!(
        "blob {digest} is damaged: its content is {actual}; pull the image again, which brings it anew"
    )))
}

/// The layout's table of contents: an entry for each name.
fn index(images: &[Exported]) -> Value {
    let entries = images.iter().flat_map(|exported| {
        let digest = &exported.image.record.manifest;
        let entry = Manifest::descriptor(&exported.bytes, digest);
        let named = exported.names.iter().map(move |name| {
            let mut entry = Manifest::descriptor(&exported.bytes, digest);
            let tag = name.tag().map(|tag| (REF_NAME.to_owned(), tag.to_owned()));
            entry.annotations.extend(tag);
            let full = (FULL_NAME.to_owned(), name.to_string());
            entry.annotations.extend([full]);
            entry
        });
        let nameless = exported.names.is_empty().then_some(entry);
        named.chain(nameless).collect::<Vec<_>>()
    });
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries.collect::<Vec<_>>(),
    })
}

fn docker_manifest(images: &[Exported]) -> Result<Value> {
    let entry = |exported: &Exported| {
        let manifest = &exported.manifest;
        if artifact_type(manifest).is_some() {
            return Err(Error::invalid(format!(
                "{} is an artifact, which a docker-archive has no place for: export it as oci-archive",
                exported.image.record.id
            )));
        }
        let layers = manifest.layers.iter().map(|layer| blob_name(&layer.digest));
        Ok(json!({
            "Config": blob_name(&manifest.config.digest),
            "RepoTags": exported.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "Layers": layers.collect::<Vec<_>>(),
        }))
    };
    images.iter().map(entry).collect()
}

fn text(value: &Value) -> Source {
    Source::Bytes(value.to_string().into_bytes())
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
