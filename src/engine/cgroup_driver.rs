//! Whether the kubelet names its pods' cgroups as Corten's cgroup driver needs them.
//!
//! The two can differ where a kubelet older than 1.34 has a driver in its own configuration, and until a
//! kubelet that asks is started again. Where the owner has asked for a driver all of its pods fail, and
//! the owner has one line to write: each refusal has it, and Status until a pod comes that goes with the
//! driver. Where systemd was only found here the pods are made in the kubelet's way, and Status tells.

use super::Engine;
use super::status::Condition;
use crate::error::{Error, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the last pod has shown.
#[derive(Debug, Default)]
pub(super) struct Drivers(Mutex<Option<String>>);

impl Drivers {
    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The pod's cgroup is named in this driver's way.
    ///
    /// # Errors
    /// `FailedPrecondition`, with the line that is to be changed.
    pub(super) fn goes_with_driver(&self, parent: &str) -> Result<()> {
        if parent.is_empty() {
            // Goes with both: it is from no kubelet.
            return Ok(());
        }
        let mismatch = self.node.cgroups.mismatch(parent);
        self.drivers.last().clone_from(&mismatch);
        match mismatch {
            Some(told) if self.node.cgroups.insists() => Err(Error::precondition(told)),
            Some(told) => {
                tracing::warn!(told, "a pod has the cgroup of another driver");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What Status says of it.
    pub(super) fn driver_condition(&self) -> Condition {
        let mismatch = self.drivers.last().clone();
        Condition::of(mismatch.map_or(Ok(()), Err), "CgroupDriverMismatch")
    }
}
