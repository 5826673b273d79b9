//! The index of images in memory: names to ids to images, and what keeps a layer alive. Pure.
//!
//! Invariant: each name leads to one image that is shown, and that image has the name.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    id::{ChainId, ContainerId, Digest, ImageId, ImageRef},
    model::image::{Image, ImageRecord},
};

/// Less of an id than this is taken for a name.
const SHORTEST_ID: usize = 5;

/// What is remembered in memory.
#[derive(Default)]
pub(super) struct Index {
    /// The images that are shown.
    pub images: HashMap<ImageId, Arc<Image>>,
    names: HashMap<ImageRef, ImageId>,
    /// Images that miss something, and what: not shown, fetched again when they are pulled.
    pub incomplete: HashMap<ImageId, (ImageRecord, String)>,
    /// Images that were removed while containers use them.
    pub removed: HashMap<ImageId, ImageRecord>,
    /// The images that a container uses: it runs one, and may see others.
    pub holds: HashMap<ContainerId, HashSet<ImageId>>,
    /// Layers that pulls under way need, and how many of them.
    pub pins: HashMap<ChainId, usize>,
    /// Patterns of names that the kubelet must not collect.
    pub pinned: Vec<String>,
}

impl Index {
    /// An empty index.
    pub fn new(pinned: Vec<String>) -> Self {
        Self {
            pinned,
            ..Self::default()
        }
    }

    /// Shows an image in place of what was known under its id.
    pub fn show(&mut self, mut image: Image) {
        let id = image.record.id.clone();
        self.hide(&id);
        self.removed.remove(&id);
        for name in names(&image.record) {
            self.names.insert(name.clone(), id.clone());
        }
        image.pinned = names(&image.record).any(|name| self.is_pinned(&name.to_string()));
        self.images.insert(id, Arc::new(image));
    }

    /// Takes an image out; gives its record and whether containers use it.
    pub fn hide(&mut self, id: &ImageId) -> Option<(ImageRecord, bool)> {
        let shown = self.images.remove(id).map(|image| image.record.clone());
        let incomplete = self.incomplete.remove(id).map(|(record, _)| record);
        let record = shown.or(incomplete)?;
        for name in names(&record) {
            if self.names.get(name) == Some(id) {
                self.names.remove(name);
            }
        }
        let held = self.holds.values().any(|held| held.contains(id));
        if held {
            self.removed.insert(
                id.clone(),
                ImageRecord {
                    removed: true,
                    ..record.clone()
                },
            );
        }
        Some((record, held))
    }

    /// What a new record changes: the image's own record before, and other images without the
    /// tags that it takes.
    pub fn touched_by(&self, record: &ImageRecord) -> (Option<ImageRecord>, Vec<Image>) {
        let shown = self
            .images
            .get(&record.id)
            .map(|image| image.record.clone());
        let before = shown.or_else(|| {
            self.incomplete
                .get(&record.id)
                .map(|(record, _)| record.clone())
        });
        let losers = self
            .images
            .values()
            .filter(|image| image.record.id != record.id);
        let losers = losers.filter(|image| !image.record.tags.is_disjoint(&record.tags));
        let without = |image: &Arc<Image>| {
            let mut image = Image::clone(image);
            image.record.lose_tags(&record.tags);
            image
        };
        (before, losers.map(without).collect())
    }

    /// The id that any name of an image leads to.
    ///
    /// # Errors
    /// `InvalidArgument` where several ids begin like that.
    pub fn find(&self, name: &str) -> Result<Option<ImageId>> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(digest) = Digest::from_hex(hex) {
            let id = ImageId(digest);
            return Ok(
                (self.images.contains_key(&id) || self.incomplete.contains_key(&id)).then_some(id),
            );
        }
        if let Some(id) = name.parse().ok().and_then(|name| self.named(&name)) {
            return Ok(Some(id));
        }
        self.beginning_with(hex)
    }

    /// A digest decides over the tag beside it.
    pub fn named(&self, name: &ImageRef) -> Option<ImageId> {
        let name = match name.digest() {
            Some(digest) => name.with_digest(digest.clone()),
            None => name.clone(),
        };
        self.names.get(&name).cloned()
    }

    fn beginning_with(&self, hex: &str) -> Result<Option<ImageId>> {
        if hex.len() < SHORTEST_ID || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let mut found = self.images.keys().filter(|id| id.0.hex().starts_with(hex));
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(Some(id.clone())),
            (None, _) => Ok(None),
            _ => Err(Error::invalid(format!(
                "several images have ids that begin with {hex}"
            ))),
        }
    }

    /// Forgets images that were removed and that no container uses any more; gives their ids.
    pub fn unheld(&mut self) -> Vec<ImageId> {
        let held: HashSet<_> = self.holds.values().flatten().cloned().collect();
        let (kept, gone) = self.removed.drain().partition(|(id, _)| held.contains(id));
        self.removed = kept;
        let gone: HashMap<ImageId, ImageRecord> = gone;
        gone.into_keys().collect()
    }

    /// Layers that something needs.
    pub fn used_layers(&self) -> HashSet<ChainId> {
        let layers = self
            .records()
            .flat_map(|record| record.layers.iter().cloned());
        layers.chain(self.pins.keys().cloned()).collect()
    }

    /// Layers of images that a container uses, and those that a pull builds on.
    pub fn layers_at_hand(&self) -> HashSet<ChainId> {
        let held: HashSet<_> = self.holds.values().flatten().collect();
        let records = self.records().filter(|record| held.contains(&record.id));
        let held = records.flat_map(|record| record.layers.iter().cloned());
        held.chain(self.pins.keys().cloned()).collect()
    }

    /// Manifests and configs that something needs.
    pub fn used_blobs(&self) -> HashSet<Digest> {
        self.records()
            .flat_map(|record| [record.id.0.clone(), record.manifest.clone()])
            .collect()
    }

    fn records(&self) -> impl Iterator<Item = &ImageRecord> {
        let shown = self.images.values().map(|image| &image.record);
        shown
            .chain(self.incomplete.values().map(|(record, _)| record))
            .chain(self.removed.values())
    }

    fn is_pinned(&self, name: &str) -> bool {
        self.pinned.iter().any(|pattern| matches(pattern, name))
    }
}

/// All names of an image.
fn names(record: &ImageRecord) -> impl Iterator<Item = &ImageRef> {
    record.tags.iter().chain(&record.digests)
}

/// Whether a pattern with `*` for any text fits a whole name.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::image::ImageConfig;

    fn image(fill: char, tags: &[&str]) -> Image {
        let digest = Digest::from_hex(&fill.to_string().repeat(64)).unwrap();
        Image {
            record: ImageRecord {
                id: ImageId(digest.clone()),
                tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
                digests: [format!("reg/app@{digest}").parse().unwrap()].into(),
                manifest: digest.clone(),
                layers: vec![ChainId(digest)],
                targets: vec![],
                tagged: std::collections::BTreeMap::new(),
                removed: false,
            },
            config: ImageConfig::default(),
            artifact: None,
            size: 1,
            pinned: false,
        }
    }

    fn found(index: &Index, name: &str) -> Option<char> {
        index
            .find(name)
            .unwrap()
            .and_then(|id| id.0.hex().chars().next())
    }

    #[test]
    fn every_name_leads_to_the_image() {
        let mut index = Index::default();
        index.show(image('a', &["busybox", "reg.io/b:1"]));
        index.show(image('b', &[]));
        let hex = "a".repeat(64);
        for name in [
            "busybox:latest",
            "docker.io/library/busybox",
            "reg.io/b:1",
            &hex,
            &format!("sha256:{hex}"),
            "aaaaa",
            "sha256:aaaaaa",
        ] {
            assert_eq!(found(&index, name), Some('a'), "{name}");
        }
        assert_eq!(
            found(&index, &format!("reg/app:x@sha256:{}", "b".repeat(64))),
            Some('b')
        );
        for name in ["reg.io/b:2", "aaaa", "ccccc", "NO NAME", &"c".repeat(64)] {
            assert_eq!(found(&index, name), None, "{name}");
        }
    }

    #[test]
    fn a_tag_moves_and_a_removal_takes_all_names() {
        let mut index = Index::default();
        index.show(image('a', &["app:1", "app:2"]));
        let (_, losers) = index.touched_by(&image('b', &["app:1"]).record);
        losers.into_iter().for_each(|loser| index.show(loser));
        index.show(image('b', &["app:1"]));
        assert_eq!(
            (found(&index, "app:1"), found(&index, "app:2")),
            (Some('b'), Some('a'))
        );
        let id = index.find("app:2").unwrap().unwrap();
        assert!(!index.hide(&id).unwrap().1);
        assert_eq!(
            (found(&index, "app:2"), found(&index, id.0.hex())),
            (None, None)
        );
        assert_eq!(found(&index, "app:1"), Some('b'));
        assert_eq!(index.hide(&id), None);
    }

    #[test]
    fn a_container_keeps_the_layers_of_a_removed_image() {
        let mut index = Index::default();
        let image = image('a', &["app"]);
        let id = image.record.id.clone();
        index.show(image);
        let container = ContainerId::random();
        index.holds.insert(container.clone(), [id.clone()].into());
        assert!(index.hide(&id).unwrap().1);
        assert_eq!((index.used_layers().len(), index.unheld()), (1, vec![]));
        index.holds.remove(&container);
        assert_eq!(index.unheld(), [id]);
        assert!(index.used_layers().is_empty());
    }

    #[test]
    fn patterns_pin_names() {
        for (pattern, name, fits) in [
            ("reg/a:1", "reg/a:1", true),
            ("reg/a", "reg/a:1", false),
            ("reg/*", "reg/a:1", true),
            ("*pause*", "reg/pause:3", true),
            ("*:3", "reg/pause:31", false),
            ("a*b*c", "axxbyyc", true),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        let mut index = Index::new(vec!["docker.io/library/*".into()]);
        index.show(image('a', &["busybox"]));
        assert!(index.images.values().next().unwrap().pinned);
    }
}
