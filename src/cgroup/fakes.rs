//! Cgroups that are only remembered.

use super::{CgroupError, Cgroups, HOLDER, ScopeError, ScopeOrder, Scopes, below_root};
use crate::model::cgroup_detail::CgroupDetail;
use crate::model::stats::CgroupUsage;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Cgroups by path, with what each of them is said to use.
#[derive(Debug, Default)]
pub struct HostCgroups {
    cgroups: Mutex<BTreeMap<String, CgroupDetail>>,
    limits: Mutex<Vec<(String, String)>>,
}

impl HostCgroups {
    /// Lets a cgroup exist and use this.
    pub fn set(&self, cgroup: &str, usage: CgroupUsage) {
        self.all().entry(cgroup.to_owned()).or_default().usage = usage;
    }

    /// Lets a cgroup exist and have all this.
    pub fn set_detail(&self, cgroup: &str, detail: CgroupDetail) {
        self.all().insert(cgroup.to_owned(), detail);
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

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, CgroupDetail>> {
        self.cgroups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(cgroup: &str) -> CgroupError {
        CgroupError::Missing(cgroup.to_owned())
    }
}

impl Cgroups for HostCgroups {
    fn usage(&self, cgroup: &str) -> Result<CgroupUsage, CgroupError> {
        Ok(self.detail(cgroup)?.usage)
    }

    fn detail(&self, cgroup: &str) -> Result<CgroupDetail, CgroupError> {
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

    fn hold(&self, cgroup: &str, _pid: i32) -> Result<(), CgroupError> {
        self.ensure(&format!("{cgroup}/{HOLDER}"))
    }

    fn kill_all(&self, cgroup: &str) -> Result<(), CgroupError> {
        below_root(cgroup)?;
        if let Some(detail) = self.all().get_mut(cgroup) {
            detail.usage.pids = Some(0);
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

/// Scopes that are only remembered, by a systemd that can be told to refuse.
#[derive(Debug, Default)]
pub struct SystemdScopes {
    scopes: Mutex<BTreeMap<String, ScopeOrder>>,
    refuses: Mutex<bool>,
}

impl SystemdScopes {
    /// The scopes that there are.
    #[must_use]
    pub fn scopes(&self) -> Vec<ScopeOrder> {
        self.all().values().cloned().collect()
    }

    /// From now on nothing is started.
    pub fn refuse(&self) {
        *self.refuses.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, ScopeOrder>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Scopes for SystemdScopes {
    async fn start(&self, order: &ScopeOrder) -> Result<(), ScopeError> {
        // Half done, as a job that fails would leave it.
        self.all().insert(order.unit.clone(), order.clone());
        match *self.refuses.lock().unwrap_or_else(PoisonError::into_inner) {
            false => Ok(()),
            true => Err(ScopeError::Job {
                operation: "start scope",
                unit: order.unit.clone(),
                result: "failed".to_owned(),
            }),
        }
    }

    async fn stop(&self, unit: &str) -> Result<(), ScopeError> {
        self.all().remove(unit);
        Ok(())
    }
}
