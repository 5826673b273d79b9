//! Pulls that have not come to their end: what they have fetched stays for a while, over a restart of
//! the daemon too, so that the next pull of the image fetches the rest alone.
//!
//! `images/pulls/HEX`, by the manifest's digits, names the layers and blobs that the image needs. It is
//! written before any of them is fetched and goes when the pull has succeeded or failed; a kill, or a
//! caller that went away, leaves it. Invariant: one that nobody comes back to keeps its parts for
//! [`KEPT`] and no longer.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Content, Error, UNFINISHED, io_error, list, remove};
use crate::id::{ChainId, Digest};

/// The kubelet asks again after five minutes at most.
pub const KEPT: Duration = Duration::from_secs(3600);

/// What an image needs that is being pulled.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Its layers.
    pub layers: HashSet<ChainId>,
    /// Their blobs.
    pub blobs: HashSet<Digest>,
}

impl Content {
    /// Notes what a pull will need.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn begin_pull(&self, manifest: &Digest, needs: &Needs) -> Result<(), Error> {
        let text = serde_json::to_vec(needs).expect("sets of digests are valid JSON");
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let unfinished = format!("{UNFINISHED}{number}-{}", manifest.hex());
        let unfinished = self.pulls.join(unfinished);
        let path = self.pulls.join(manifest.hex());
        let written = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &path));
        written
            .inspect_err(|_| drop(fs::remove_file(&unfinished)))
            .map_err(io_error("write", &path))
    }

    /// The pull has come to its end.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn end_pull(&self, manifest: &Digest) -> Result<(), Error> {
        remove(&self.pulls.join(manifest.hex()))
    }

    /// What pulls without an end need, all together. Those that are too old are forgotten, and so is
    /// what cannot be read.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub fn unfinished(&self) -> Result<Needs, Error> {
        let mut all = Needs::default();
        for name in list(&self.pulls)? {
            let path = self.pulls.join(&name);
            let needs = fs::read(&path).ok().filter(|_| !is_old(&path));
            let needs = needs.and_then(|text| serde_json::from_slice::<Needs>(&text).ok());
            match needs {
                Some(needs) => {
                    all.layers.extend(needs.layers);
                    all.blobs.extend(needs.blobs);
                }
                // One that is being written is no JSON yet.
                None if name.starts_with(UNFINISHED) && !is_old(&path) => {}
                None => remove(&path)?,
            }
        }
        Ok(all)
    }

    /// Removes partial blobs that no pull without an end needs.
    ///
    /// # Errors
    /// Where they cannot be listed or removed.
    pub fn sweep_partials(&self, needs: &Needs) -> Result<(), Error> {
        self.partials.sweep(&needs.blobs)
    }
}

fn is_old(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    // A clock that was set back makes it look new: it gets older again from then on.
    let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.is_ok_and(|age| age > KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn what_a_pull_needs_is_known_until_its_end_or_for_a_while() {
        let root = TempDir::new().unwrap();
        let store = Content::open(root.path()).unwrap();
        let needs = |name: &str| Needs {
            layers: [ChainId(Digest::of(name.as_bytes()))].into(),
            blobs: [Digest::of(&[name.as_bytes(), b"blob"].concat())].into(),
        };
        let manifest = |name: &str| Digest::of(name.as_bytes());
        for name in ["ended", "killed", "forgotten"] {
            store.begin_pull(&manifest(name), &needs(name)).unwrap();
        }
        store.end_pull(&manifest("ended")).unwrap();
        store.end_pull(&manifest("ended")).unwrap();
        let again = Content::open(root.path()).unwrap();
        assert_eq!(again.unfinished().unwrap().layers.len(), 2);
        let path = again.pulls.join(manifest("forgotten").hex());
        let file = fs::File::options().write(true).open(&path).unwrap();
        let old = SystemTime::now() - KEPT - Duration::from_secs(1);
        file.set_modified(old).unwrap();
        fs::write(again.pulls.join(manifest("torn").hex()), "{").unwrap();
        assert_eq!(again.unfinished().unwrap(), needs("killed"));
        assert_eq!(list(&again.pulls).unwrap(), [manifest("killed").hex()]);
    }
}
