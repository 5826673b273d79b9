//! A pod network in memory, for tests of the engine: stands for plugins that can be told to fail
//! after they gave an address.

use super::{Kept, Networks};
use crate::error::{Error, Result};
use crate::id::SandboxId;
use crate::model::sandbox::{NetworkIntent, Sandbox};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Semaphore;

/// A pod network in memory.
#[derive(Debug)]
pub struct CniNetworks {
    given: Mutex<BTreeSet<SandboxId>>,
    fails: AtomicBool,
    /// What DEL answers.
    answer: Mutex<Answer>,
    /// How often DEL was asked.
    asked: AtomicU32,
    /// One permit for each ADD that may pass.
    passes: Semaphore,
}

/// What a DEL answers.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub enum Answer {
    /// Done.
    #[default]
    Done,
    /// Not now.
    Later,
    /// Never; the address is given back where the plugins are asked apart.
    Never,
    /// Nothing at all.
    Nothing,
}

impl Default for CniNetworks {
    fn default() -> Self {
        Self {
            given: Mutex::default(),
            fails: AtomicBool::new(false),
            answer: Mutex::default(),
            asked: AtomicU32::new(0),
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

    /// From now on DEL answers this.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How often DEL was asked.
    #[must_use]
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn reply(&self) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = *self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if answer == Answer::Nothing {
            std::future::pending::<()>().await;
        }
        answer
    }

    fn give_back(&self, sandbox: &Sandbox) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.remove(&sandbox.id);
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
        match self.reply().await {
            Answer::Done => self.give_back(sandbox),
            _ => return Err(Error::internal("DEL told to fail")),
        }
        Ok(())
    }

    async fn remembered(&self, id: &SandboxId) -> Option<NetworkIntent> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.contains(id).then(NetworkIntent::default)
    }

    async fn remove_apart(
        &self,
        sandbox: &Sandbox,
        _intent: &NetworkIntent,
    ) -> std::result::Result<(), Kept> {
        let answer = self.reply().await;
        if answer != Answer::Later {
            self.give_back(sandbox);
        }
        match answer {
            Answer::Done => Ok(()),
            Answer::Never => Err(Kept::Refused(Error::internal("DEL told to refuse"))),
            _ => Err(Kept::Failed(Error::internal("DEL told to fail"))),
        }
    }

    async fn forget(&self, _sandbox: &Sandbox, _intent: &NetworkIntent) -> Result<()> {
        Ok(())
    }

    async fn end_strays(&self, _sandbox: &Sandbox) {}
}
