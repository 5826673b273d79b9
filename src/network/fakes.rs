//! A pod network in memory, for tests of the engine: stands for plugins that can be told to fail
//! after they gave an address.

use super::Networks;
use crate::error::{Error, Result};
use crate::id::SandboxId;
use crate::model::sandbox::{NetworkIntent, Sandbox};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Semaphore;

/// A pod network in memory.
#[derive(Debug)]
pub struct CniNetworks {
    given: Mutex<BTreeSet<SandboxId>>,
    fails: AtomicBool,
    /// One permit for each ADD that may pass.
    passes: Semaphore,
}

impl Default for CniNetworks {
    fn default() -> Self {
        Self {
            given: Mutex::default(),
            fails: AtomicBool::new(false),
            passes: Semaphore::new(Semaphore::MAX_PERMITS / 2),
        }
    }
}

impl CniNetworks {
    /// From now on ADD fails after it has given an address.
    pub fn fail(&self) {
        self.fails.store(true, Ordering::Relaxed);
    }

    /// From now on ADD waits until it is let pass.
    pub fn hold(&self) {
        self.passes.forget_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets one ADD pass.
    pub fn let_pass(&self) {
        self.passes.add_permits(1);
    }

    /// How many addresses are given.
    #[must_use]
    pub fn given(&self) -> usize {
        self.given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

#[async_trait]
impl Networks for CniNetworks {
    fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    fn intent(&self, _sandbox: &Sandbox) -> Result<NetworkIntent> {
        Ok(NetworkIntent::default())
    }

    async fn add(&self, sandbox: &Sandbox, _intent: &NetworkIntent) -> Result<Vec<IpAddr>> {
        if let Ok(pass) = self.passes.acquire().await {
            pass.forget();
        }
        self.given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sandbox.id.clone());
        match self.fails.load(Ordering::Relaxed) {
            true => Err(Error::internal("told to fail")),
            false => Ok(vec![IpAddr::from([10, 0, 0, 2])]),
        }
    }

    async fn remove(&self, sandbox: &Sandbox, _intent: &NetworkIntent) -> Result<()> {
        self.given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&sandbox.id);
        Ok(())
    }

    async fn end_strays(&self, _sandbox: &Sandbox) {}
}
