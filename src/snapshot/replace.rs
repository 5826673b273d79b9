//! A broken layer gives way to a whole one while containers run on it.
//!
//! ```text
//! layers/HEX/               the broken one ─┐ exchanged by one call
//! layers/.replaced-HEX-N/   the whole one  ─┘ then holds the broken one
//! ```
//! The mounts of containers lead to the old tree, so that stays, whole as it was, until no container
//! holds the layer. Invariant: no tree that a container may have mounted is thrown away, whenever this
//! process is killed.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tracing::{info, warn};

use super::{
    error::{Error, io_error},
    trash::Trash,
};
use crate::id::{ChainId, Digest};

/// Prefix of the names of old trees.
pub(super) const REPLACED: &str = ".replaced-";

/// The trees that are old, and whose layer each was.
#[derive(Debug, Default)]
pub(super) struct Replacing(Mutex<Vec<(ChainId, PathBuf)>>);

impl Replacing {
    /// Takes up an old tree that an earlier daemon has left.
    pub fn take_in(&self, path: PathBuf) {
        let hex = path.file_name().and_then(|name| name.to_str());
        let hex = hex.and_then(|name| name.strip_prefix(REPLACED)?.split('-').next());
        match hex.and_then(|hex| Digest::from_hex(hex).ok()) {
            Some(digest) => self.old().push((ChainId(digest), path)),
            None => warn!(path = %path.display(), "not a layer's name"),
        }
    }

    /// Puts the tree at `from` in the place of the layer at `at`.
    pub fn exchange(&self, from: &Path, at: &Path, chain: &ChainId) -> Result<(), Error> {
        let mut all = self.old();
        let parent = at.parent().unwrap_or(at);
        let name = |number: usize| format!("{REPLACED}{}-{number}", chain.0.hex());
        let free = (0..).map(|number| parent.join(name(number)));
        let mut free = free.filter(|path| path.symlink_metadata().is_err());
        let old = free.next().unwrap_or_else(|| parent.join(name(0)));
        fs::rename(from, &old).map_err(io_error("rename", from))?;
        all.push((chain.clone(), old.clone()));
        renameat_with(CWD, &old, CWD, at, RenameFlags::EXCHANGE)
            .map_err(io_error("replace", at))?;
        info!(layer = %chain, "broken layer replaced");
        Ok(())
    }

    /// Throws away old trees that no container can have mounted and no pull can look at.
    pub fn discard(
        &self,
        held: impl FnOnce() -> HashSet<ChainId>,
        trash: &Trash,
    ) -> Result<(), Error> {
        let mut old = self.old();
        let held = held();
        let (kept, gone) = old.drain(..).partition(|(chain, _)| held.contains(chain));
        *old = kept;
        let thrown: Vec<_> = Vec::into_iter(gone)
            .map(|(_, path)| trash.throw(&path))
            .collect();
        thrown.into_iter().collect()
    }

    /// Whether there are old trees.
    pub fn has_old(&self) -> bool {
        !self.old().is_empty()
    }

    fn old(&self) -> MutexGuard<'_, Vec<(ChainId, PathBuf)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
