//! A pod's scope: how it comes to be, and its end. For a pod without one there is nothing to do.
//!
//! ```text
//! save(Creating: unit, cgroup, cradle) ─▶ cradle made ─▶ holder born in it ─▶ save(holder)
//!     ─▶ systemd takes the holder into the scope ─▶ moved into the leaf `holder` ─▶ cradle removed
//! ```
//! A kill between any two of these leaves what the record names: whoever is in the cradle or the scope
//! is killed, the scope is stopped, and both cgroups are removed.
//!
//! Invariant: containers and execs cost no word with systemd.

use super::{Engine, blocking};
use crate::cgroup::ScopeOrder;
use crate::error::{Error, Result};
use crate::model::pod_cgroup::Scope;
use crate::model::sandbox::Sandbox;
use std::sync::Arc;

impl Engine {
    /// Makes the cgroup in which the holder of the pod's scope is to be born.
    pub(super) async fn make_cradle(&self, sandbox: &Sandbox) -> Result<()> {
        let Some(Scope { cradle, .. }) = sandbox.scope.clone() else {
            return Ok(());
        };
        let cgroups = Arc::clone(&self.ports.cgroups);
        blocking(move || Ok(cgroups.ensure(&cradle)?)).await
    }

    /// Has systemd make the scope of the holder, which then goes into its leaf.
    pub(super) async fn start_scope(&self, sandbox: &Sandbox) -> Result<()> {
        let Some(scope) = sandbox.scope.clone() else {
            return Ok(());
        };
        let holder = sandbox.namespaces.holder;
        let (pid, _) = holder.ok_or_else(|| Error::internal("the pod's scope has no holder"))?;
        let order = ScopeOrder {
            unit: scope.unit.clone(),
            slice: scope.slice.clone(),
            description: description(sandbox),
            pid,
        };
        let started = self.ports.scopes.start(&order).await;
        started.map_err(|e| Error::from(e).during("make the pod's scope"))?;
        crate::failpoint!("systemd_scope/started");
        let holding = Arc::clone(&self.ports.cgroups);
        blocking(move || Ok(holding.hold(&scope.cgroup, pid)?)).await?;
        crate::failpoint!("systemd_scope/held");
        let cgroups = Arc::clone(&self.ports.cgroups);
        let left = blocking(move || Ok(cgroups.remove(&scope.cradle)?)).await;
        if let Err(error) = left {
            // Who was in it may still be ending. It goes with the pod.
            tracing::debug!(sandbox.id = %sandbox.id, error = error.chain(), "the holder's cradle stays for now");
        }
        Ok(())
    }

    /// Ends the scope and whoever is in it. A boot ends scopes by itself.
    pub(super) async fn end_scope(&self, sandbox: &Sandbox) -> Result<()> {
        let of_now = sandbox.boot_id == self.node.boot_id;
        let Some(scope) = sandbox.scope.clone().filter(|_| of_now) else {
            return Ok(());
        };
        let (cgroups, both) = (
            Arc::clone(&self.ports.cgroups),
            [scope.cgroup.clone(), scope.cradle.clone()],
        );
        let killing = Arc::clone(&cgroups);
        let kill = both.clone();
        blocking(move || Ok(kill.iter().try_for_each(|one| killing.kill_all(one))?)).await?;
        self.ports.scopes.stop(&scope.unit).await?;
        crate::failpoint!("systemd_scope/stopped");
        // systemd removes the scope's own. On v1 it does not know of all hierarchies.
        blocking(move || Ok(both.iter().try_for_each(|one| cgroups.remove(one))?)).await
    }
}

/// As `systemctl status` shows it.
fn description(sandbox: &Sandbox) -> String {
    let pod = &sandbox.config.metadata;
    format!("Kubernetes pod {}/{}", pod.namespace, pod.name)
}
