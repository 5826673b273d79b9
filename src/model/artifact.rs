//! OCI artifacts: manifests whose config is no image's. No container is made of one; one can see
//! its blobs as files, which is what image volumes are for (models, charts, profiles).
//!
//! A blob is a file with its bytes as they are, called as its annotation says; a directory that ORAS
//! packed is a directory again. What has no name gets its digest for one. Sources: OCI image
//! specification 1.1 ("Guidelines for Artifact Usage"), the annotations of ORAS and of the CNCF's
//! ModelPack. Invariant: a name leads to one blob, and stays beneath the root.

use std::collections::BTreeMap;

use super::image::{Descriptor, ImageManifest, ImageRecord};
use crate::{
    error::{Error, Result},
    id::Digest,
};

/// The annotations that name a blob's file; the first that is there counts.
const NAMES: [&str; 3] = [
    "org.opencontainers.image.title",
    "org.cncf.model.filepath",
    "org.cnai.model.filepath",
];
/// ORAS packed a directory: `true`.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// The digest of the tar that it packed.
const UNPACKED_DIGEST: &str = "io.deis.oras.content.digest";
/// A blob that stands for none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Types of the configs of images.
const IMAGE_CONFIGS: [&str; 2] = [
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
];
/// Types that say nothing.
const VAGUE: [&str; 2] = ["", "application/octet-stream"];
/// The longest path and the longest name in it (`PATH_MAX`, `NAME_MAX`).
const LONGEST: (usize, usize) = (4095, 255);

/// What becomes of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A file of this path.
    File(String),
    /// The tree of a tar with this digest.
    Tree(Digest),
}

/// A blob of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The blob.
    pub blob: Descriptor,
    /// What becomes of it.
    pub form: Form,
}

impl Part {
    /// What takes the place of a diff id: with the blob's digest the name decides what the tree is.
    #[must_use]
    pub fn diff_id(&self) -> Digest {
        match &self.form {
            Form::Tree(digest) => digest.clone(),
            Form::File(name) => {
                Digest::of(format!("artifact {} {name}", self.blob.digest).as_bytes())
            }
        }
    }
}

/// The type of the artifact that a manifest is of; `None` where it is of an image.
#[must_use]
pub fn artifact_type(manifest: &ImageManifest) -> Option<&str> {
    let (config, named) = (&*manifest.config.media_type, &*manifest.artifact_type);
    let vague = VAGUE.contains(&config);
    if IMAGE_CONFIGS.contains(&config) || (vague && named.is_empty()) {
        return None;
    }
    Some(if named.is_empty() { config } else { named })
}

/// The blobs of an artifact, each once, in the manifest's order.
///
/// # Errors
/// `Internal` where a name is not one that a file can have, or two blobs are in each other's way.
pub fn parts(manifest: &ImageManifest) -> Result<Vec<Part>> {
    let mut names = Names::default();
    let mut parts = Vec::with_capacity(manifest.layers.len());
    for blob in manifest
        .layers
        .iter()
        .filter(|blob| blob.media_type != EMPTY)
    {
        let name = file_name(blob)?;
        if names.take(&name, blob)? {
            let blob = blob.clone();
            parts.push(Part {
                form: form(&blob, name),
                blob,
            });
        }
    }
    Ok(parts)
}

fn form(blob: &Descriptor, name: String) -> Form {
    let note = |key| blob.annotations.get(key);
    let tar = note(UNPACKED_DIGEST).and_then(|digest| digest.parse().ok());
    match tar {
        Some(digest) if note(UNPACK).is_some_and(|unpack| unpack == "true") => Form::Tree(digest),
        _ => Form::File(name),
    }
}

/// The path of a blob, without `.`.
fn file_name(blob: &Descriptor) -> Result<String> {
    let noted = NAMES.iter().find_map(|key| blob.annotations.get(*key));
    let Some(noted) = noted else {
        return Ok(blob.digest.hex().to_owned());
    };
    let parts: Vec<_> = noted.split('/').filter(|part| *part != ".").collect();
    // A mark of layers would be taken for what it means there.
    let wrong = |part: &&str| {
        let marked = part.starts_with(".wh.");
        part.is_empty() || *part == ".." || marked || part.len() > LONGEST.1 || part.contains('\0')
    };
    // The whole of what ORAS packed from where it stood.
    let whole = parts.is_empty() && matches!(form(blob, String::new()), Form::Tree(_));
    if (parts.is_empty() && !whole) || parts.iter().any(wrong) || noted.len() > LONGEST.0 {
        let shown: String = noted.chars().take(LONGEST.1).collect();
        return Err(Error::internal(format!(
            "layer {} is called {shown:?}, which is not allowed as the name of an artifact's file",
            blob.digest
        )));
    }
    Ok(parts.join("/"))
}

/// Names that are taken.
#[derive(Default)]
struct Names(BTreeMap<String, Digest>);

impl Names {
    /// Gives a blob its name; false where it has it already.
    fn take(&mut self, name: &str, blob: &Descriptor) -> Result<bool> {
        let above = name.match_indices('/').map(|(at, _)| &name[..at]);
        let above = above.filter_map(|above| self.0.get(above)).next();
        let below = format!("{name}/");
        let below = self.0.range(below.clone()..).next();
        let below = below.filter(|(other, _)| other.starts_with(&format!("{name}/")));
        match (self.0.get(name), above, below) {
            (Some(same), None, None) if *same == blob.digest => Ok(false),
            (None, None, None) => {
                self.0.insert(name.to_owned(), blob.digest.clone());
                Ok(true)
            }
            (other, above, below) => {
                let other = other.or(above).or(below.map(|(_, digest)| digest));
                let other = other.map_or_else(String::new, ToString::to_string);
                Err(Error::internal(format!(
                    "layers {other} and {} of the artifact are both at {name:?}",
                    blob.digest
                )))
            }
        }
    }
}

impl ImageRecord {
    /// Whether it is of an artifact. These are known by their manifest: most have the same config,
    /// an empty one.
    #[must_use]
    pub fn is_artifact(&self) -> bool {
        self.id.0 == self.manifest
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::image::Manifest;

    fn manifest(config: &str, kind: &str, layers: &[Value]) -> ImageManifest {
        let config = json!({"mediaType": config, "digest": digest('c'), "size": 2});
        let whole =
            json!({"schemaVersion": 2, "artifactType": kind, "config": config, "layers": layers});
        match Manifest::parse(whole.to_string().as_bytes()).unwrap() {
            Manifest::Image(manifest) => manifest,
            Manifest::Index(_) => panic!("an index"),
        }
    }

    fn digest(fill: char) -> String {
        format!("sha256:{}", fill.to_string().repeat(64))
    }

    fn blob(fill: char, annotations: &Value) -> Value {
        json!({"digest": digest(fill), "size": 1, "annotations": annotations})
    }

    fn titled(fill: char, title: &str) -> Value {
        blob(fill, &json!({"org.opencontainers.image.title": title}))
    }

    fn forms(layers: &[Value]) -> Result<Vec<Form>> {
        let found = parts(&manifest(EMPTY, "x/y", layers))?;
        Ok(found.into_iter().map(|part| part.form).collect())
    }

    fn file(name: &str) -> Form {
        Form::File(name.to_owned())
    }

    #[test]
    fn the_configs_type_tells_artifacts_from_images() {
        let helm = "application/vnd.cncf.helm.config.v1+json";
        for (config, named, expected) in [
            (EMPTY, "x/y", Some("x/y")),
            (EMPTY, "", Some(EMPTY)),
            (helm, "", Some(helm)),
            ("", "x/y", Some("x/y")),
            ("", "", None),
            (VAGUE[1], "", None),
            (IMAGE_CONFIGS[0], "", None),
            (IMAGE_CONFIGS[1], "x/y", None),
        ] {
            let manifest = manifest(config, named, &[]);
            assert_eq!(artifact_type(&manifest), expected, "{config} {named}");
        }
    }

    #[test]
    fn files_have_titles_or_digests_for_names() {
        let model = json!({"org.cncf.model.filepath": "w/1.bin"});
        let layers = [
            titled('a', "./m/model.bin"),
            blob('b', &model),
            blob('d', &Value::Null),
        ];
        let expected = [file("m/model.bin"), file("w/1.bin"), file(&"d".repeat(64))];
        assert_eq!(forms(&layers).unwrap(), expected);
        let empty = json!({"mediaType": EMPTY, "digest": digest('e'), "size": 2});
        assert_eq!(forms(&[empty]).unwrap(), []);
    }

    #[test]
    fn a_packed_directory_is_a_tree() {
        let note = |title: &str, unpack: &str| json!({UNPACK: unpack, UNPACKED_DIGEST: digest('f'), NAMES[0]: title});
        let layers = [blob('a', &note("docs", "true"))];
        let tree = Form::Tree(digest('f').parse().unwrap());
        assert_eq!(forms(&layers).unwrap(), std::slice::from_ref(&tree));
        assert_eq!(forms(&[blob('a', &note(".", "true"))]).unwrap(), [tree]);
        let layers = [blob('a', &note("docs", "false"))];
        assert_eq!(forms(&layers).unwrap(), [file("docs")]);
    }

    #[test]
    fn names_that_lead_away_are_refused() {
        let long = "x".repeat(256);
        for title in [
            "",
            ".",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".wh.a",
            "a/.wh..wh..opq",
            "a\0b",
            &long,
        ] {
            let error = forms(&[titled('a', title)]).unwrap_err().to_string();
            assert!(error.contains("not allowed"), "{title}: {error}");
            assert!(error.contains(&digest('a')), "{error}");
        }
    }

    #[test]
    fn no_blob_is_in_anothers_way() {
        let all = |titles: [&str; 2], fills: [char; 2]| {
            forms(&[titled(fills[0], titles[0]), titled(fills[1], titles[1])])
        };
        assert_eq!(all(["x", "./x"], ['a', 'a']).unwrap(), [file("x")]);
        assert_eq!(all(["x", "x-y"], ['a', 'b']).unwrap().len(), 2);
        assert_eq!(all(["d/x", "d/y"], ['a', 'b']).unwrap().len(), 2);
        for titles in [["x", "x"], ["x", "x/y"], ["x/y/z", "x"]] {
            let error = all(titles, ['a', 'b']).unwrap_err().to_string();
            assert!(
                error.contains(&digest('a')) && error.contains(&digest('b')),
                "{error}"
            );
        }
    }

    #[test]
    fn a_tree_is_named_by_name_and_content() {
        let layers = [titled('a', "x"), titled('a', "y"), titled('b', "z")];
        let parts = parts(&manifest(EMPTY, "x/y", &layers)).unwrap();
        let ids: std::collections::HashSet<_> = parts.iter().map(Part::diff_id).collect();
        assert_eq!(ids.len(), 3);
    }
}
