//! Where a container's bundle is.

use super::Engine;
use crate::id::ContainerId;
use std::path::PathBuf;

/// Where a bundle may be, the likelier first.
pub(super) type Places = [PathBuf; 2];

impl Engine {
    /// In the state of this boot; one that an earlier version made is beside the container's record.
    pub(super) fn bundle_places(&self, id: &ContainerId) -> Places {
        let store = &self.ports.store;
        [store.bundle_dir(id), store.container_dir(id)]
    }
}

/// The one of them that is there. Waits for the disk.
pub(super) fn found([here, before]: Places) -> PathBuf {
    let config = |place: &PathBuf| place.join("config.json").exists();
    match !config(&here) && config(&before) {
        true => before,
        false => here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_of_an_earlier_version_is_found_and_none_is_looked_for_in_the_state() {
        let root = tempfile::tempdir().unwrap();
        let places = ["state", "beside"].map(|name| root.path().join(name));
        assert_eq!(found(places.clone()), places[0]);
        std::fs::create_dir(&places[1]).unwrap();
        assert_eq!(found(places.clone()), places[0]);
        std::fs::write(places[1].join("config.json"), "{}").unwrap();
        assert_eq!(found(places.clone()), places[1]);
        std::fs::create_dir(&places[0]).unwrap();
        std::fs::write(places[0].join("config.json"), "{}").unwrap();
        assert_eq!(found(places.clone()), places[0]);
    }
}
