//! What is in an image archive: docker-archive, oci-archive or an OCI layout directory, told by
//! what they hold and not by their names.
//!
//! Sources: OCI image layout 1.1; Docker's image specification 1.2 for `manifest.json`.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::image_layers::{WantedLayer, wanted, wanted_by};
use crate::{
    error::{Context, Error, Kind, Result},
    id::{Digest, ImageRef},
    model::{
        artifact::artifact_type,
        image::{
            Descriptor, ImageConfigFile, ImageManifest, LARGEST_MANIFEST, Manifest, Platform,
            choose,
        },
    },
    unpack::Members,
};

/// Indexes that lead to indexes are followed this far.
const DEEPEST_INDEX: usize = 3;
/// Full names, as containerd and BuildKit write them.
const FULL_NAME: &str = "io.containerd.image.name";
/// A name or only a tag, as the OCI layout has it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An archive that can be read out of order.
pub(super) enum ImageArchive {
    /// An OCI layout directory.
    Folder(PathBuf),
    /// A tar of one, or of `docker save`.
    Tar(Members),
}

/// One image of an archive.
pub(super) struct ArchivedImage {
    /// The config's bytes; of an artifact those of its manifest.
    pub config: Vec<u8>,
    /// The manifest's bytes; made up where the archive has none.
    pub manifest: Vec<u8>,
    /// The layers, bottom first.
    pub layers: Vec<WantedLayer>,
    /// The names that it has in the archive.
    pub names: Vec<ImageRef>,
    /// What these names stand for in a registry, where the archive tells.
    pub named: Option<Descriptor>,
    /// Where each layer's bytes are, by the layer's name.
    pub members: HashMap<Digest, String>,
}

#[derive(Deserialize)]
struct LayoutIndex {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl ImageArchive {
    /// Opens a file or a directory. Blocks. `scratch` takes the copy of a compressed archive.
    ///
    /// # Errors
    /// `InvalidArgument` where it is not there or no archive; what the disk says where the copy is.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let members = Members::open(path, scratch);
        members.map(Self::Tar).map_err(|error| {
            let kind = match error.is_of_the_disk() {
                true => error.kind(),
                false => Kind::InvalidArgument,
            };
            let failed = format!("{} cannot be read as an archive", path.display());
            Error::new(kind, failed).caused_by(error)
        })
    }

    /// An archive in a file that is open.
    ///
    /// # Errors
    /// `InvalidArgument` where it is no archive.
    pub fn of(file: File, scratch: &Path) -> Result<Self> {
        let members = Members::of(file, scratch);
        members.map(Self::Tar).context(Kind::InvalidArgument, || {
            "it cannot be read as an archive".to_owned()
        })
    }

    /// A blob of a layout.
    ///
    /// # Errors
    /// As [`ImageArchive::member`].
    pub fn blob_member(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        self.member(&blob_name(digest))
    }

    /// The bytes of a member, if it is there, and their number.
    ///
    /// # Errors
    /// Where it is there and cannot be opened.
    pub fn member(&self, name: &str) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        match self {
            Self::Tar(members) => Ok(members.get(name).map(|member| {
                let length = member.length();
                (Box::new(member) as Box<dyn Read + Send>, length)
            })),
            Self::Folder(folder) => match File::open(folder.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                opened => {
                    let file = opened.context(Kind::Internal, || format!("open {name}"))?;
                    let length = file
                        .metadata()
                        .context(Kind::Internal, || format!("read {name}"))?
                        .len();
                    Ok(Some((Box::new(file), length)))
                }
            },
        }
    }

    /// All images for this machine.
    ///
    /// # Errors
    /// `InvalidArgument` where the archive is none of the known kinds or damaged.
    pub fn images(&self, platform: &Platform) -> Result<Vec<ArchivedImage>> {
        // Docker, and Corten's export, write both: the layout has the manifest as it came.
        let is_layout = self.small("oci-layout")?.is_some() && self.small("index.json")?.is_some();
        if let Some(text) = self.small("manifest.json")?.filter(|_| !is_layout) {
            let images: Vec<DockerImage> = json("manifest.json", &text)?;
            return images
                .iter()
                .map(|image| self.docker_image(image))
                .collect();
        }
        let Some(text) = self.small("index.json")? else {
            return Err(Error::invalid(
                "no image archive: it has neither a manifest.json (docker-archive) nor an index.json (OCI layout)",
            ));
        };
        let index: LayoutIndex = json("index.json", &text)?;
        self.layout_images(&index.manifests, platform)
    }

    fn docker_image(&self, image: &DockerImage) -> Result<ArchivedImage> {
        let config = self.needed(&image.config)?;
        let file: ImageConfigFile = json(&image.config, &config)?;
        let mut blobs = Vec::with_capacity(image.layers.len());
        for (member, diff_id) in image.layers.iter().zip(&file.rootfs.diff_ids) {
            let (_, size) = self.member(member)?.ok_or_else(|| missing(member))?;
            blobs.push(descriptor(
                "application/vnd.oci.image.layer.v1.tar",
                diff_id.clone(),
                size,
            ));
        }
        let config_blob = descriptor(
            "application/vnd.oci.image.config.v1+json",
            Digest::of(&config),
            config.len() as u64,
        );
        let manifest = ImageManifest {
            artifact_type: String::new(),
            config: config_blob,
            layers: blobs,
        };
        let mut layers = wanted(&manifest, &file.rootfs.diff_ids)?;
        // Only the digest of the uncompressed tar is known here.
        layers.iter_mut().for_each(|layer| layer.blob = None);
        let names = image
            .repo_tags
            .iter()
            .flatten()
            .map(|name| name.parse())
            .collect::<Result<_>>()?;
        let members = file
            .rootfs
            .diff_ids
            .into_iter()
            .zip(image.layers.iter().cloned())
            .collect();
        Ok(ArchivedImage {
            manifest: made_up(&manifest),
            config,
            layers,
            names,
            named: None,
            members,
        })
    }

    fn layout_images(
        &self,
        entries: &[Descriptor],
        platform: &Platform,
    ) -> Result<Vec<ArchivedImage>> {
        let images: Vec<_> = entries
            .iter()
            .filter(|entry| !entry.is_about_another())
            .collect();
        let fitting = images
            .iter()
            .filter(|entry| choose(std::slice::from_ref(**entry), platform).is_ok());
        let fitting: Vec<_> = fitting
            .map(|entry| self.layout_image(entry, platform))
            .collect::<Result<_>>()?;
        if fitting.is_empty() {
            return Err(Error::not_found(format!(
                "the archive has no image for {}/{}",
                platform.os, platform.architecture
            )));
        }
        Ok(fitting)
    }

    fn layout_image(&self, entry: &Descriptor, platform: &Platform) -> Result<ArchivedImage> {
        let (bytes, manifest) = self.follow(entry, platform)?;
        let config = match artifact_type(&manifest) {
            Some(_) => bytes.clone(),
            None => self.blob(&manifest.config)?,
        };
        let layers = wanted_by(&manifest, &config)?;
        let members = manifest
            .layers
            .iter()
            .map(|layer| (layer.digest.clone(), blob_name(&layer.digest)));
        Ok(ArchivedImage {
            members: members.collect(),
            manifest: bytes,
            config,
            layers,
            names: layout_names(entry),
            named: Some(Descriptor {
                annotations: BTreeMap::new(),
                platform: None,
                ..entry.clone()
            }),
        })
    }

    /// Follows indexes to the image for this machine.
    fn follow(&self, entry: &Descriptor, platform: &Platform) -> Result<(Vec<u8>, ImageManifest)> {
        let mut at = entry.clone();
        for _ in 0..DEEPEST_INDEX {
            let bytes = self.blob(&at)?;
            match Manifest::parse(&bytes)? {
                Manifest::Image(manifest) => return Ok((bytes, manifest)),
                Manifest::Index(index) => at = choose(&index, platform)?.clone(),
            }
        }
        Err(Error::invalid(format!(
            "the index leads to more than {DEEPEST_INDEX} others"
        )))
    }

    /// A small blob, verified.
    fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.needed(&blob_name(&blob.digest))?;
        let actual = Digest::of(&bytes);
        if actual == blob.digest {
            Ok(bytes)
        } else {
            Err(Error::invalid(format!(
                "blob {} of the archive is {actual}",
                blob.digest
            )))
        }
    }

    fn needed(&self, name: &str) -> Result<Vec<u8>> {
        self.small(name)?.ok_or_else(|| missing(name))
    }

    /// A member that is read into memory.
    fn small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((reader, length)) = self.member(name)? else {
            return Ok(None);
        };
        if length > LARGEST_MANIFEST {
            return Err(Error::invalid(format!(
                "{name} has {length} bytes, at most {LARGEST_MANIFEST} are read"
            )));
        }
        let mut bytes = Vec::new();
        reader
            .take(LARGEST_MANIFEST)
            .read_to_end(&mut bytes)
            .context(Kind::Internal, || format!("read {name}"))?;
        Ok(Some(bytes))
    }
}

/// The names of a layout's image. A bare tag names nothing.
fn layout_names(entry: &Descriptor) -> Vec<ImageRef> {
    let full = entry.annotations.get(FULL_NAME);
    let named = entry
        .annotations
        .get(REF_NAME)
        .filter(|name| name.contains(['/', ':']));
    full.or(named)
        .and_then(|name| name.parse().ok())
        .into_iter()
        .collect()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    let annotations = std::collections::BTreeMap::new();
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations,
    }
}

/// A docker-archive has no manifest of the registry's kind: this is what it would be.
fn made_up(manifest: &ImageManifest) -> Vec<u8> {
    let text = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": manifest.config,
        "layers": manifest.layers,
    });
    text.to_string().into_bytes()
}

fn json<'a, T: Deserialize<'a>>(name: &str, text: &'a [u8]) -> Result<T> {
    serde_json::from_slice(text).context(Kind::InvalidArgument, || {
        format!("{name} of the archive is not valid")
    })
}

fn missing(name: &str) -> Error {
    Error::invalid(format!("the archive has no {name}, which it refers to"))
}
