//! Images: what manifests and configs say, and what the node remembers of an image.
//!
//! Manifests come from strangers: they are read leniently where builders differ (null for an empty
//! list, missing media types) and strictly where an ambiguity could be abused. Sources: OCI image
//! specification 1.1, Docker image manifest version 2 schema 2.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    error::{Error, Result},
    id::{ChainId, Digest, ImageId, ImageRef},
};

/// The media types that a manifest may have, for the Accept header.
pub const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// The largest manifest or config that is read, in bytes (what registries accept).
pub const LARGEST_MANIFEST: u64 = 4 << 20;
/// The most layers that an image may have: overlayfs takes 500, and docker builds at most 127.
const MOST_LAYERS: usize = 500;

/// Marks an entry of an index that is about another one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// A reference to content by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// In an index: where the image runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes; an OCI layout names its images here.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Whether it is what BuildKit puts beside an image: a statement of how that was built.
    #[must_use]
    pub fn is_about_another(&self) -> bool {
        self.annotations.contains_key(REFERENCE_TYPE)
    }
}

/// Where an image runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// `v7`, `v8`, …; empty where the architecture has none.
    #[serde(default)]
    pub variant: String,
}

impl Platform {
    /// This machine's, in Go's words.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: variant.into(),
        }
    }

    /// How well an image for `self` runs here: `None` not at all, less is better.
    fn distance(&self, host: &Self) -> Option<u32> {
        if self.os != host.os || self.architecture != host.architecture {
            return None;
        }
        let number = |variant: &str| variant.trim_start_matches('v').parse::<u32>().ok();
        match (number(&self.variant), number(&host.variant)) {
            (Some(wanted), Some(have)) => have.checked_sub(wanted),
            // An amd64 v2 or v3 image may need more than the host has; without a variant it runs.
            (Some(wanted), None) => (wanted <= 1).then_some(1),
            (None, _) => Some(0),
        }
    }
}

/// A manifest of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// Images for several platforms.
    Index(Vec<Descriptor>),
}

/// One image: its config and its layers, bottom first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// What kind of artifact it is, where it says so; empty otherwise.
    pub artifact_type: String,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    #[serde(default)]
    schema_version: u32,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<serde_json::Value>,
}

impl Manifest {
    /// Reads a manifest or an index. The kind is told by the content, and a document that could be
    /// read as both is refused (CVE-2021-41190).
    ///
    /// # Errors
    /// `Internal` with what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let raw: RawManifest = serde_json::from_slice(bytes)
            .map_err(|error| Error::internal("the manifest is not valid").caused_by(error))?;
        if raw.schema_version == 1 || raw.fs_layers.is_some() {
            return Err(Error::internal(
                "the manifest is of Docker schema 1, which is not supported: push the image again with a tool of this decade",
            ));
        }
        match (raw.config, raw.layers, raw.manifests) {
            (Some(config), layers, None) => ImageManifest {
                artifact_type: raw.artifact_type.unwrap_or_default(),
                config,
                layers: layers.unwrap_or_default(),
            }
            .checked(),
            (None, None, Some(manifests)) => Ok(Self::Index(manifests)),
            (None, None, None) => Err(Error::internal(
                "the manifest has neither a config nor manifests",
            )),
            _ => Err(Error::internal(
                "the manifest could be an image as well as an index",
            )),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Typed {
    media_type: String,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// The descriptor of a manifest or an index of these bytes and this digest. Its type is what it
    /// says of itself, else OCI's of its kind.
    #[must_use]
    pub fn descriptor(bytes: &[u8], digest: &Digest) -> Descriptor {
        let typed: Typed = serde_json::from_slice(bytes).unwrap_or_default();
        let media_type = match (typed.media_type, typed.manifests) {
            (named, _) if !named.is_empty() => named,
            (_, Some(_)) => MANIFEST_TYPES[0].to_owned(),
            (_, None) => MANIFEST_TYPES[1].to_owned(),
        };
        Descriptor {
            media_type,
            digest: digest.clone(),
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl ImageManifest {
    fn checked(self) -> Result<Manifest> {
        let layers = &self.layers;
        if layers.len() > MOST_LAYERS {
            return Err(Error::internal(format!(
                "the image has {} layers, at most {MOST_LAYERS} are possible",
                layers.len()
            )));
        }
        if let Some(foreign) = layers.iter().find(|layer| is_foreign(&layer.media_type)) {
            return Err(Error::internal(format!(
                "layer {} is a foreign layer ({}), which is not distributed by registries",
                foreign.digest, foreign.media_type
            )));
        }
        Ok(Manifest::Image(self))
    }
}

fn is_foreign(media_type: &str) -> bool {
    [".foreign.", ".nondistributable."]
        .iter()
        .any(|mark| media_type.contains(mark))
}

/// Chooses the image of an index that runs best on `host`.
///
/// # Errors
/// `NotFound` with the platforms that there are.
pub fn choose<'a>(index: &'a [Descriptor], host: &Platform) -> Result<&'a Descriptor> {
    let fit = |entry: &&Descriptor| match &entry.platform {
        _ if entry.is_about_another() => None,
        Some(platform) => platform.distance(host),
        // Some builders leave the platform out of an index of one.
        None => Some(u32::MAX),
    };
    let best = index
        .iter()
        .filter_map(|entry| Some((fit(&entry)?, entry)))
        .min_by_key(|(fit, _)| *fit);
    best.map(|(_, entry)| entry).ok_or_else(|| {
        let known: BTreeSet<_> = index
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        Error::not_found(format!(
            "the index has no image for {}/{}, only for: {known}",
            host.os, host.architecture
        ))
    })
}

/// An image's config blob, as far as a runtime needs it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfigFile {
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// How containers of it run.
    #[serde(default, deserialize_with = "nullable")]
    pub config: ImageConfig,
    /// The layers.
    pub rootfs: RootFs,
}

/// The layers according to the config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// The digests of the uncompressed layers, bottom first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// How containers of an image run unless the kubelet says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group`, …; empty is root.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// The command's first words.
    #[serde(deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// The command, or its arguments where there is an entrypoint.
    #[serde(deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// The working directory; empty is `/`.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// `SIGTERM`, `15`, …; empty is SIGTERM.
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
    /// Paths that are volumes.
    #[serde(deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// `port/protocol`.
    #[serde(deserialize_with = "nullable")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Docker's HEALTHCHECK, as it was written: one that cannot be right is no reason to refuse the
    /// image. See [`Healthcheck::read`](super::health::Healthcheck::read).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
}

/// Who an image's processes are, as the CRI shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// The image does not say.
    Unset,
    /// A number.
    Uid(i64),
    /// A name that only the image's /etc/passwd explains.
    Name(String),
}

impl ImageConfig {
    /// The user without its group. A number too large for a uid counts as a name, so that it never
    /// wraps around to root (CVE-2024-40635).
    #[must_use]
    pub fn user(&self) -> ImageUser {
        let user = self.user.split(':').next().unwrap_or_default();
        match user.parse::<u32>() {
            _ if user.is_empty() => ImageUser::Unset,
            Ok(uid) if i32::try_from(uid).is_ok() => ImageUser::Uid(uid.into()),
            _ => ImageUser::Name(user.to_owned()),
        }
    }
}

/// The chain ids of a stack of layers: each names a layer together with all below it
/// (OCI image specification, "Layer ChainID").
#[must_use]
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<ChainId> {
    let mut chain: Vec<ChainId> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(ChainId(next));
    }
    chain
}

/// What happens to a layer of a pull or an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The name is being turned into a manifest; about no layer.
    Resolving,
    /// Known, and waits for its turn.
    Waiting,
    /// Bytes arrive and are unpacked as they come.
    Fetching,
    /// All bytes have arrived; the rest is being unpacked.
    Unpacking,
    /// Stored just now.
    Done,
    /// Was stored before.
    Exists,
}

/// How far one layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What happens to it.
    pub stage: Stage,
    /// Its digest as the manifest names it; `None` while resolving.
    pub layer: Option<Digest>,
    /// Bytes of it that have come.
    pub done: u64,
    /// Bytes that it has; 0 where that is not known.
    pub total: u64,
}

/// Null means empty.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// What the node remembers of an image; the config and the manifest are blobs beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of the config; of an artifact that of its manifest.
    pub id: ImageId,
    /// The names with a tag under which it was pulled or imported.
    pub tags: BTreeSet<ImageRef>,
    /// The names with a digest: of the index where there was one, else of the manifest.
    pub digests: BTreeSet<ImageRef>,
    /// The manifest of this platform's image.
    pub manifest: Digest,
    /// The manifests and indexes that the digests of the names stand for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Descriptor>,
    /// Which of the digests each tag stood for when it was pulled or imported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged: BTreeMap<ImageRef, Digest>,
    /// The layers by chain id, bottom first.
    pub layers: Vec<ChainId>,
    /// It was removed while containers use it: no longer shown, and gone with the last of them.
    #[serde(default)]
    pub removed: bool,
}

impl ImageRecord {
    /// Adds the names that it had before, and what they stand for; what it says itself counts.
    pub fn remember(&mut self, before: Self) {
        self.tags.extend(before.tags);
        self.digests.extend(before.digests);
        for target in before.targets {
            if !self.targets.contains(&target) {
                self.targets.push(target);
            }
        }
        for (tag, digest) in before.tagged {
            self.tagged.entry(tag).or_insert(digest);
        }
    }

    /// Leaves these tags to another image.
    pub fn lose_tags(&mut self, lost: &BTreeSet<ImageRef>) {
        self.tags.retain(|tag| !lost.contains(tag));
        self.tagged.retain(|tag, _| !lost.contains(tag));
    }

    /// The digest that a name of it stands for: its own, that of its tag, or the first of the same
    /// repository.
    #[must_use]
    pub fn digest_of<'a>(&'a self, name: &'a ImageRef) -> &'a Digest {
        let same = |digest: &&ImageRef| {
            (digest.registry(), digest.repository()) == (name.registry(), name.repository())
        };
        let beside = || self.digests.iter().find(same).and_then(ImageRef::digest);
        let own = name.digest().or_else(|| self.tagged.get(name));
        own.or_else(beside).unwrap_or(&self.manifest)
    }
}

/// An image as the node knows it while the daemon runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// What is on disk.
    pub record: ImageRecord,
    /// How its containers run.
    pub config: ImageConfig,
    /// What kind of artifact it is; `None`: an image, of which containers can be made.
    pub artifact: Option<String>,
    /// Bytes that its layers, manifest and config take.
    pub size: u64,
    /// The kubelet must not collect it.
    pub pinned: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(fill: char, platform: Option<(&str, &str, &str)>) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::from_hex(&fill.to_string().repeat(64)).unwrap(),
            size: 1,
            platform: platform.map(|(os, architecture, variant)| Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.into(),
            }),
            annotations: BTreeMap::new(),
        }
    }

    fn host(architecture: &str, variant: &str) -> Platform {
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.into(),
        }
    }

    #[test]
    fn an_index_gives_the_image_that_runs_best() {
        let index = [
            descriptor('0', Some(("unknown", "unknown", ""))),
            descriptor('1', Some(("linux", "arm", "v6"))),
            descriptor('2', Some(("linux", "arm", "v7"))),
            descriptor('3', Some(("linux", "arm", "v8"))),
            descriptor('4', Some(("windows", "amd64", ""))),
            descriptor('5', Some(("linux", "amd64", "v3"))),
            descriptor('6', Some(("linux", "amd64", ""))),
        ];
        assert_eq!(choose(&index, &host("arm", "v7")).unwrap(), &index[2]);
        assert_eq!(choose(&index, &host("amd64", "")).unwrap(), &index[6]);
        let none = choose(&index, &host("riscv64", "")).unwrap_err();
        assert!(
            none.to_string().contains("linux/amd64, linux/arm"),
            "{none}"
        );
        assert_eq!(
            choose(&[descriptor('7', None)], &host("s390x", ""))
                .unwrap()
                .digest
                .hex(),
            "7".repeat(64)
        );
    }

    #[test]
    fn manifests_that_could_be_two_things_are_refused() {
        let descriptor = serde_json::to_string(&descriptor('a', None)).unwrap();
        let parse = |text: String| Manifest::parse(text.as_bytes());
        assert!(matches!(
            parse(format!(
                r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#
            )),
            Ok(Manifest::Image(_))
        ));
        assert!(matches!(
            parse(format!(r#"{{"manifests":[{descriptor}]}}"#)),
            Ok(Manifest::Index(_))
        ));
        assert!(
            parse(format!(
                r#"{{"config":{descriptor},"layers":[],"manifests":[]}}"#
            ))
            .is_err()
        );
        assert!(parse("{}".into()).is_err());
        let one = parse(r#"{"schemaVersion":1,"fsLayers":[]}"#.into()).unwrap_err();
        assert!(one.to_string().contains("schema 1"));
        let foreign = descriptor.replace(
            r#""mediaType":"""#,
            r#""mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip""#,
        );
        assert!(
            parse(format!(r#"{{"config":{descriptor},"layers":[{foreign}]}}"#))
                .unwrap_err()
                .to_string()
                .contains("foreign")
        );
    }

    #[test]
    fn a_config_may_say_null_for_nothing() {
        let text = r#"{"config":{"User":"7:8","Env":null,"Cmd":["sh"],"Volumes":null,"Entrypoint":null},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let file: ImageConfigFile = serde_json::from_str(text).unwrap();
        assert_eq!(
            (file.config.cmd, file.config.env),
            (vec!["sh".to_owned()], vec![])
        );
        let bare: ImageConfigFile = serde_json::from_str(r#"{"config":null,"rootfs":{}}"#).unwrap();
        assert_eq!(bare.config, ImageConfig::default());
    }

    #[test]
    fn chain_ids_name_the_whole_stack() {
        let diff = |fill: char| descriptor(fill, None).digest;
        let chains = chain_ids(&[diff('a'), diff('b')]);
        assert_eq!(chains[0].0, diff('a'));
        let sum = format!("sha256:{} sha256:{}", "a".repeat(64), "b".repeat(64));
        assert_eq!(chains[1].0, Digest::of(sum.as_bytes()));
        assert_ne!(chain_ids(&[diff('b'), diff('a')])[1], chains[1]);
    }

    #[test]
    fn users_are_numbers_or_names() {
        let user = |text: &str| {
            ImageConfig {
                user: text.into(),
                ..ImageConfig::default()
            }
            .user()
        };
        assert_eq!(user(""), ImageUser::Unset);
        assert_eq!(user("1002:7"), ImageUser::Uid(1002));
        assert_eq!(user("www-data:root"), ImageUser::Name("www-data".into()));
        assert_eq!(user("4294967296"), ImageUser::Name("4294967296".into()));
    }
}
