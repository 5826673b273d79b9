//! What is remembered of a layer, beside it on the disk and of all of them in memory.

use std::{collections::HashMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::error::{Error, io_error};
use crate::{
    id::{ChainId, Digest},
    unpack::Usage,
};

/// Prefix of the names of what is not finished.
pub(super) const UNFINISHED: &str = ".tmp-";
/// The record's file in the layer's directory.
pub(super) const RECORD: &str = "record.json";

/// What is remembered of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Its name: itself and all below.
    pub chain: ChainId,
    /// The layer below.
    pub below: Option<ChainId>,
    /// The digest of its tar.
    pub diff_id: Digest,
    /// What it takes.
    pub usage: Usage,
    /// It hides all below.
    pub opaque_root: bool,
    /// The boot in which it was made.
    pub boot_id: String,
    /// It is on the disk for good.
    pub durable: bool,
    /// The digest of its inventory; `None`: it was made by a version that wrote none.
    #[serde(default)]
    pub inventory: Option<Digest>,
    /// It was found to be broken: the next pull brings it anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub distrusted: bool,
    /// The digest of what the kernel tells of its files; `None`: they are not sealed by fs-verity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verity: Option<Digest>,
}

/// The layers' records, and what they take together.
#[derive(Debug, Default)]
pub(super) struct Known {
    records: HashMap<ChainId, LayerRecord>,
    usage: Usage,
}

impl Known {
    /// Takes a record in, in place of the one before.
    pub fn insert(&mut self, record: LayerRecord) {
        self.usage += record.usage;
        if let Some(before) = self.records.insert(record.chain.clone(), record) {
            self.usage -= before.usage;
        }
    }

    /// Takes a record out.
    pub fn remove(&mut self, chain: &ChainId) {
        if let Some(before) = self.records.remove(chain) {
            self.usage -= before.usage;
        }
    }

    /// A layer's record.
    pub fn get(&self, chain: &ChainId) -> Option<&LayerRecord> {
        self.records.get(chain)
    }

    /// The same, to be changed in all but its usage.
    pub fn get_mut(&mut self, chain: &ChainId) -> Option<&mut LayerRecord> {
        self.records.get_mut(chain)
    }

    /// All records.
    pub fn all(&self) -> impl Iterator<Item = &LayerRecord> {
        self.records.values()
    }

    /// What all layers take together.
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

/// The record of the layer in this directory.
pub(super) fn read_record(path: &Path) -> io::Result<LayerRecord> {
    let text = fs::read(path.join(RECORD))?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// Writes it into the directory of a layer that is being made.
pub(super) fn write_record(path: &Path, record: &LayerRecord) -> Result<(), Error> {
    let (file, unfinished) = (
        path.join(RECORD),
        path.join(format!("{UNFINISHED}{RECORD}")),
    );
    let text = serde_json::to_vec(record).expect("a record of strings and numbers is valid JSON");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, &file))
        .map_err(io_error("write", file))
}
