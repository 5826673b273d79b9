//! The pod network, as the engine needs it: is there one, give this pod its addresses, take them
//! back.
//!
//! Invariant: what was asked for at [`Networks::add`] is all that [`Networks::remove`] needs: the
//! node's own configuration may have changed in between.

mod cni;
#[cfg(test)]
pub mod fakes;
mod outlook;
mod request;

pub use cni::CniNetworks;

use crate::error::{Error, Result};
use crate::id::SandboxId;
use crate::model::sandbox::{NetworkIntent, Sandbox};
use async_trait::async_trait;
use std::net::IpAddr;

/// Why something of a network could not be taken back.
#[derive(Debug)]
pub enum Kept {
    /// Plugins answered that they will not, and no address is kept.
    Refused(Error),
    /// It may succeed later.
    Failed(Error),
}

/// The node's pod network.
#[async_trait]
pub trait Networks: Send + Sync {
    /// `Ok` when pods can be given a network, else why not and what to do about it.
    ///
    /// # Errors
    /// The reason.
    fn ready(&self) -> std::result::Result<(), String>;

    /// What will be asked for, for this sandbox; to be saved before [`Networks::add`].
    ///
    /// # Errors
    /// `Unavailable` while there is no network configuration.
    fn intent(&self, sandbox: &Sandbox) -> Result<NetworkIntent>;

    /// Gives the sandbox's network namespace its interfaces, and tells its addresses.
    ///
    /// # Errors
    /// What the plugins said; what they had done was taken back.
    async fn add(&self, sandbox: &Sandbox, intent: &NetworkIntent) -> Result<Vec<IpAddr>>;

    /// Takes back what [`Networks::add`] gave; also when it was never asked, or only half done. The
    /// namespace is to be let go right afterwards: it takes along what is left in it.
    ///
    /// # Errors
    /// What the plugins said.
    async fn remove(&self, sandbox: &Sandbox, intent: &NetworkIntent) -> Result<()>;

    /// What was asked for a sandbox of which nothing but its name is known any more, as far as the
    /// plugins' results tell; `None` where they tell nothing.
    async fn remembered(&self, id: &SandboxId) -> Option<NetworkIntent>;

    /// Takes back what can be taken back where [`Networks::remove`] goes on failing, and the
    /// namespace is gone, or goes now: every plugin is asked, whatever the others say.
    ///
    /// # Errors
    /// What is kept, and whether that may change.
    async fn remove_apart(
        &self,
        sandbox: &Sandbox,
        intent: &NetworkIntent,
    ) -> std::result::Result<(), Kept>;

    /// Remembers nothing more of what [`Networks::add`] gave: for what no plugin takes back.
    ///
    /// # Errors
    /// Where the disk refuses.
    async fn forget(&self, sandbox: &Sandbox, intent: &NetworkIntent) -> Result<()>;

    /// Ends the plugins that an earlier life of the daemon left at work for the sandbox: an ADD that
    /// goes on would take what [`Networks::remove`] gives back.
    async fn end_strays(&self, sandbox: &Sandbox);
}
