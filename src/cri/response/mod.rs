//! The way out: the model's types become messages of the CRI.
//!
//! Invariant: nothing can fail here, and nothing is looked up: what a message says is in what the
//! engine gave.

pub mod container;
pub mod events;
pub mod image;
pub mod metrics;
pub mod node;
pub mod resources;
pub mod sandbox;
pub mod stats;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

/// A map in the form of the wire.
pub(super) fn map(pairs: &BTreeMap<String, String>) -> HashMap<String, String> {
    pairs.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}
