//! Which hosts gave the bytes of a blob. Whether these are right is known when all have come: a
//! mirror that gave wrong ones is asked no more for that blob.
//!
//! Invariant: each [`Givers::blame`] that names somebody leaves fewer hosts to ask, so that asking
//! again for as long as it does comes to an end.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use reqwest::Url;

use super::hosts::Endpoint;

/// The hosts of one blob, over all attempts to get it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Givers(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Mirrors that gave bytes since the last attempt began.
    mirrors: BTreeSet<Url>,
    blamed: BTreeSet<Url>,
}

impl Givers {
    /// Takes it that the bytes of the last attempt were wrong: the mirrors that gave some are not
    /// asked again. Gives their names; empty: it was the registry alone, and asking again is of no
    /// use.
    #[must_use]
    pub fn blame(&self) -> Vec<String> {
        let mut known = self.lock();
        let mirrors = std::mem::take(&mut known.mirrors);
        let named = |url: &Url| url.host_str().unwrap_or_default().to_owned();
        let names = mirrors.iter().map(named).collect();
        known.blamed.extend(mirrors);
        names
    }

    /// Notes that a host gave bytes.
    pub(super) fn gave(&self, host: &Endpoint) {
        if host.mirror {
            self.lock().mirrors.insert(host.base.clone());
        }
    }

    /// Whether a host may be asked.
    pub(super) fn trusts(&self, host: &Endpoint) -> bool {
        !self.lock().blamed.contains(&host.base)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
