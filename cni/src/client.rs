//! The operations on a network: chains of plugin runs.
//!
//! ```text
//! add:  find all ─▶ p1 ─result─▶ p2 ─result─▶ p3 ─result─▶ cache ─▶ caller
//!                          └─ fails ─▶ DEL p3, p2, p1, each whatever the others did ─▶ error
//! del:  cache ─result─▶ p3 ─▶ p2 ─▶ p1 ─▶ cache forgets
//! ```
//!
//! DEL stops at the first plugin that fails, as the specification says: going on could give an
//! address back while a host port still leads to it. The caller repeats it until it succeeds; once
//! the namespace is gone, nothing leads anywhere, and it may ask for each plugin apart.
//!
//! Invariant: GC never runs beside an ADD or a DEL of this client. That two operations do not run
//! at once for one container is the caller's to see to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::args::Attachment;
use crate::bundle::Bundle;
use crate::cache::{Cache, CachedAttachment};
use crate::chain::{Chain, Places, blocking};
use crate::conf::NetworkList;
use crate::error::{Command, Error};
use crate::result::AddResult;

/// Runs plugins. Cheap to clone; the clones share one lock.
#[derive(Clone, Debug)]
pub struct Client {
    places: Places,
}

/// An attachment that GC must keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValidAttachment {
    /// As it was given to ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// As it was given to ADD.
    pub ifname: String,
}

impl Client {
    /// `bin_dirs` are searched in their order for plugins; `cache_dir` is libcni's `/var/lib/cni`
    /// or another: its `results/` is made when it is needed.
    pub fn new(bin_dirs: Vec<PathBuf>, cache_dir: PathBuf) -> Self {
        let cache = Cache::new(cache_dir);
        Self {
            places: Places {
                bin_dirs,
                bundle: None,
                cache,
                gate: Arc::default(),
            },
        }
    }

    /// A list whose plugins are all found in this bundle's directory, which is to be one of `bin_dirs`,
    /// is run by one process.
    #[must_use]
    pub fn with_bundle(mut self, bundle: Bundle) -> Self {
        self.places.bundle = Some(bundle);
        self
    }

    /// Attaches. `limit` is for the whole chain; undoing it after a failure has as much again.
    ///
    /// On any error but [`Error::RollbackFailed`] nothing is left of it. Dropping the future kills
    /// the plugin that runs and undoes nothing: call [`Client::del`] then.
    pub async fn add(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        limit: Duration,
    ) -> Result<AddResult, Error> {
        attachment.check()?;
        attachment.required_netns()?;
        let chain = self.chain(list, Some(attachment), Command::Add, limit);
        let _gate = chain.pass_gate().await?;
        let programs = chain.find_all()?;
        match chain.add(&programs).await {
            Ok(result) => Ok(result),
            Err(error) => Err(self.roll_back(list, attachment, limit, error).await),
        }
    }

    /// Detaches, with the list and the attachment of the ADD. It may be called again and after a
    /// failed ADD, and when the namespace is gone or was never made.
    pub async fn del(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        limit: Duration,
    ) -> Result<(), Error> {
        attachment.check()?;
        let chain = self.chain(list, Some(attachment), Command::Del, limit);
        let _gate = chain.pass_gate().await?;
        chain.del().await
    }

    /// Like [`Client::del`], for an attachment whose namespace the caller lets go right afterwards: links
    /// may be left to its end, so that nobody waits for the kernel to take them away one by one. They are
    /// out of use at once, and one that is still there a second later is deleted in the background.
    pub async fn del_at_end(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        limit: Duration,
    ) -> Result<(), Error> {
        attachment.check()?;
        let chain = Chain {
            namespace_ends: true,
            ..self.chain(list, Some(attachment), Command::Del, limit)
        };
        let _gate = chain.pass_gate().await?;
        chain.del().await
    }

    /// Detaches what [`Client::del`] fails to: every plugin is asked, for `limit` at most, whatever
    /// the others said, and where one fails its IPAM plugin is asked by itself. It may be called
    /// again.
    ///
    /// For an attachment whose namespace is gone, or goes now: it can give an address back while a
    /// host port still leads to it.
    pub async fn del_apart(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        limit: Duration,
    ) -> Result<(), Error> {
        attachment.check()?;
        let chain = self.chain(list, Some(attachment), Command::Del, limit);
        let _gate = chain.pass_gate().await?;
        several(list, Command::Del, chain.del_apart(limit).await)
    }

    /// Takes the attachment out of the cache, and does nothing else: for one that no plugin will
    /// undo any more.
    pub async fn forget(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), Error> {
        attachment.check()?;
        self.chain(list, Some(attachment), Command::Del, Duration::ZERO)
            .forget()
            .await
    }

    /// Asks every plugin whether the attachment is as its ADD left it. `disableCheck` makes it
    /// succeed unasked; below 0.4.0 there is nothing to ask with.
    pub async fn check(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        limit: Duration,
    ) -> Result<(), Error> {
        attachment.check()?;
        attachment.required_netns()?;
        let chain = self.chain(list, Some(attachment), Command::Check, limit);
        if !list.version().has_check() {
            return Err(chain.not_in_version());
        }
        if list.disable_check() {
            return Ok(());
        }
        chain.check().await
    }

    /// Tells whether an ADD could be served: all plugins are installed and, from 1.1.0 on, say
    /// that they are ready.
    pub async fn status(&self, list: &NetworkList, limit: Duration) -> Result<(), Error> {
        let chain = self.chain(list, None, Command::Status, limit);
        let programs = chain.find_all()?;
        if !list.version().has_status_and_gc() {
            return Ok(());
        }
        chain.status(&programs).await
    }

    /// Releases what belongs to none of `valid`: a DEL for every other attachment of this network
    /// in the cache, then, from 1.1.0 on, a GC of every plugin. `disableGC` makes it do nothing.
    ///
    /// It waits for every ADD and DEL to end and holds new ones back. It goes on after a failure.
    pub async fn gc(
        &self,
        list: &NetworkList,
        valid: &[ValidAttachment],
        limit: Duration,
    ) -> Result<(), Error> {
        if list.disable_gc() {
            return Ok(());
        }
        let chain = self.chain(list, None, Command::Gc, limit);
        let _gate = chain.close_gate().await?;
        let mut errors = self.del_stale(&chain, valid).await?;
        if list.version().has_status_and_gc() {
            errors.extend(chain.gc(&json!(valid)).await);
        }
        several(list, Command::Gc, errors)
    }

    /// What the cache remembers of ADDs that had no DEL, of all networks: also those of another
    /// runtime that uses the same directory.
    pub async fn cached_attachments(&self) -> Result<Vec<CachedAttachment>, Error> {
        let cache = self.places.cache.clone();
        blocking(move || cache.attachments()).await
    }

    /// The answer of the attachment's ADD, in the list's version, where it is in the cache.
    pub async fn cached_result(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
    ) -> Result<Option<AddResult>, Error> {
        attachment.check()?;
        self.chain(list, Some(attachment), Command::Add, Duration::ZERO)
            .cached_result()
            .await
    }

    fn chain<'a>(
        &'a self,
        list: &'a NetworkList,
        attachment: Option<&'a Attachment>,
        command: Command,
        limit: Duration,
    ) -> Chain<'a> {
        Chain {
            places: &self.places,
            list,
            attachment,
            command,
            deadline: Instant::now() + limit,
            namespace_ends: false,
        }
    }

    /// DELs the whole chain after `error`: a plugin may have done half of its work, and the
    /// specification asks for a DEL of each.
    async fn roll_back(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        limit: Duration,
        error: Error,
    ) -> Error {
        let chain = self.chain(list, Some(attachment), Command::Del, limit);
        let rollback = chain.del_each().await;
        match rollback.is_empty() {
            true => error,
            false => Error::RollbackFailed {
                source: Box::new(error),
                rollback,
            },
        }
    }

    async fn del_stale(
        &self,
        gc: &Chain<'_>,
        valid: &[ValidAttachment],
    ) -> Result<Vec<Error>, Error> {
        let mut errors = Vec::new();
        for cached in self.cached_attachments().await? {
            let is_valid = valid.iter().any(|it| it.is(&cached.attachment));
            if cached.network == gc.list.name() && !is_valid {
                errors.extend(del_cached(gc, &cached).await.err());
            }
        }
        Ok(errors)
    }
}

/// With the configuration that the ADD ran with, where it can still be read, and in the time that
/// the GC has: while it runs no ADD can.
async fn del_cached(gc: &Chain<'_>, cached: &CachedAttachment) -> Result<(), Error> {
    let kept = NetworkList::from_bytes(&cached.config).ok();
    let same_name = kept.as_ref().filter(|kept| kept.name() == gc.list.name());
    let list = same_name.unwrap_or(gc.list);
    let attachment = Some(&cached.attachment);
    Chain {
        list,
        attachment,
        command: Command::Del,
        ..*gc
    }
    .del()
    .await
}

impl ValidAttachment {
    fn is(&self, attachment: &Attachment) -> bool {
        self.container_id == attachment.container_id && self.ifname == attachment.ifname
    }
}

fn several(list: &NetworkList, command: Command, mut errors: Vec<Error>) -> Result<(), Error> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Several {
            network: list.name().to_owned(),
            command,
            errors,
        }),
    }
}
