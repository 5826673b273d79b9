//! Cgroups that are only remembered.

use super::{CgroupError, Cgroups, below_root};
use crate::model::stats::CgroupUsage;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Cgroups by path, with what each of them is said to use.
#[derive(Debug, Default)]
pub struct HostCgroups {
    cgroups: Mutex<BTreeMap<String, CgroupUsage>>,
    limits: Mutex<Vec<(String, String)>>,
}

impl HostCgroups {
    /// Lets a cgroup exist and use this.
    pub fn set(&self, cgroup: &str, usage: CgroupUsage) {
        self.all().insert(cgroup.to_owned(), usage);
    }

    /// The cgroup exists.
    #[must_use]
    pub fn has(&self, cgroup: &str) -> bool {
        self.all().contains_key(cgroup)
    }

    /// Which limits were written to which cgroup, in order.
    #[must_use]
    pub fn limits(&self) -> Vec<(String, String)> {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.clone()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, CgroupUsage>> {
        self.cgroups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(cgroup: &str) -> CgroupError {
        CgroupError::Missing(cgroup.to_owned())
    }
}

impl Cgroups for HostCgroups {
    fn usage(&self, cgroup: &str) -> Result<CgroupUsage, CgroupError> {
        below_root(cgroup)?;
        let found = self.all().get(cgroup).cloned();
        found.ok_or_else(|| Self::missing(cgroup))
    }

    fn ensure(&self, cgroup: &str) -> Result<(), CgroupError> {
        below_root(cgroup)?;
        self.all().entry(cgroup.to_owned()).or_default();
        Ok(())
    }

    fn limit(&self, cgroup: &str, resources: &str) -> Result<(), CgroupError> {
        self.ensure(cgroup)?;
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.push((cgroup.to_owned(), resources.to_owned()));
        Ok(())
    }

    fn enter(&self, cgroup: &str) -> Result<(), CgroupError> {
        match self.has(cgroup) {
            true => Ok(()),
            false => Err(Self::missing(cgroup)),
        }
    }

    fn kill_all(&self, cgroup: &str) -> Result<(), CgroupError> {
        below_root(cgroup)?;
        if let Some(usage) = self.all().get_mut(cgroup) {
            usage.pids = Some(0);
        }
        Ok(())
    }

    fn remove(&self, cgroup: &str) -> Result<(), CgroupError> {
        let prefix = format!("/{}/", below_root(cgroup)?);
        self.all()
            .retain(|path, _| path != cgroup && !path.starts_with(&prefix));
        Ok(())
    }
}
