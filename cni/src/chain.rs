//! One command on the plugins of one list, in the order and with the care that the command asks for.
//!
//! Invariant: what a plugin is given is made here and in `request`, for every command alike.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::args::Attachment;
use crate::cache::Cache;
use crate::conf::{NetworkList, Plugin};
use crate::error::{Command, Error, PluginError};
use crate::exec::{self, Call};
use crate::request::{self, Extra};
use crate::result::AddResult;

/// What all operations of a client share.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Searched for plugins in this order.
    pub(crate) bin_dirs: Vec<PathBuf>,
    pub(crate) cache: Cache,
    /// Open to many ADDs and DELs, or to one GC.
    pub(crate) gate: Arc<RwLock<()>>,
}

/// One command on one list.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) places: &'a Places,
    pub(crate) list: &'a NetworkList,
    pub(crate) attachment: Option<&'a Attachment>,
    pub(crate) command: Command,
    pub(crate) deadline: Instant,
}

impl Chain<'_> {
    pub(crate) async fn add(&self, programs: &[PathBuf]) -> Result<AddResult, Error> {
        let mut result: Option<AddResult> = None;
        for (plugin, program) in self.list.plugins().iter().zip(programs) {
            let prev_result = result.as_ref().map(AddResult::json);
            result = Some(self.add_one(plugin, program, prev_result).await?);
        }
        let result = result.expect("a list without plugins is refused when it is read");
        self.remember(&result).await?;
        Ok(result)
    }

    async fn add_one(
        &self,
        plugin: &Plugin,
        program: &Path,
        prev_result: Option<&str>,
    ) -> Result<AddResult, Error> {
        let call = self.call(
            plugin,
            program,
            Extra {
                prev_result,
                ..Extra::default()
            },
        );
        let stdout = exec::run(&call, self.deadline).await?;
        AddResult::parse(&stdout, self.list.version())
            .map_err(|reason| call.bad_output(reason, &stdout))
    }

    pub(crate) async fn del(&self) -> Result<(), Error> {
        let prev = self.previous_of_del().await;
        for plugin in self.list.plugins().iter().rev() {
            self.del_one(plugin, prev.as_ref()).await?;
        }
        self.forget().await
    }

    /// Every plugin is asked, each in a time of its own, and for one that fails its IPAM plugin.
    pub(crate) async fn del_apart(&self, limit: Duration) -> Vec<Error> {
        let prev = self.previous_of_del().await;
        let mut errors = Vec::new();
        for plugin in self.list.plugins().iter().rev() {
            let deadline = Instant::now() + limit;
            let turn = Self { deadline, ..*self };
            if let Err(failed) = turn.del_one(plugin, prev.as_ref()).await {
                errors.push(turn.del_address(plugin, failed, limit).await);
            }
        }
        if errors.is_empty() {
            errors.extend(self.forget().await.err());
        }
        errors
    }

    /// The plugin failed, so its IPAM plugin may never have been asked; gives the error to tell.
    async fn del_address(&self, plugin: &Plugin, failed: Error, limit: Duration) -> Error {
        let Some(ipam) = plugin.ipam() else {
            return failed;
        };
        let deadline = Instant::now() + limit;
        let asked = async {
            let program = exec::find(&ipam, &self.places.bin_dirs).await?;
            let call = Call {
                plugin: &ipam,
                ..self.call(plugin, &program, Extra::default())
            };
            exec::run(&call, deadline).await
        };
        match asked.await {
            Err(error) if !has_nothing_to_undo(&error) => Error::AddressKept {
                failed: Box::new(failed),
                source: Box::new(error),
            },
            _ => failed,
        }
    }

    /// Goes on after a failure: what can be undone is undone.
    pub(crate) async fn del_each(&self) -> Vec<Error> {
        let mut errors = Vec::new();
        for plugin in self.list.plugins().iter().rev() {
            errors.extend(self.del_one(plugin, None).await.err());
        }
        errors.extend(self.forget().await.err());
        errors
    }

    async fn del_one(&self, plugin: &Plugin, prev: Option<&AddResult>) -> Result<(), Error> {
        let program = exec::find(&plugin.kind, &self.places.bin_dirs).await?;
        let prev_result = prev.map(AddResult::json);
        match self
            .run(
                plugin,
                &program,
                Extra {
                    prev_result,
                    ..Extra::default()
                },
            )
            .await
        {
            Err(error) if has_nothing_to_undo(&error) => Ok(()),
            outcome => outcome,
        }
    }

    pub(crate) async fn check(&self) -> Result<(), Error> {
        let prev = self.cached_result().await?;
        let prev_result = prev.as_ref().map(AddResult::json);
        for plugin in self.list.plugins() {
            let program = exec::find(&plugin.kind, &self.places.bin_dirs).await?;
            self.run(
                plugin,
                &program,
                Extra {
                    prev_result,
                    ..Extra::default()
                },
            )
            .await?;
        }
        Ok(())
    }

    pub(crate) async fn gc(&self, valid: &Value) -> Vec<Error> {
        let mut errors = Vec::new();
        for plugin in self.list.plugins() {
            errors.extend(self.gc_one(plugin, valid).await.err());
        }
        errors
    }

    async fn gc_one(&self, plugin: &Plugin, valid: &Value) -> Result<(), Error> {
        let program = exec::find(&plugin.kind, &self.places.bin_dirs).await?;
        let extra = Extra {
            valid_attachments: Some(valid),
            ..Extra::default()
        };
        self.run(plugin, &program, extra).await
    }

    /// A command without an answer.
    pub(crate) async fn run(
        &self,
        plugin: &Plugin,
        program: &Path,
        extra: Extra<'_>,
    ) -> Result<(), Error> {
        exec::run(&self.call(plugin, program, extra), self.deadline)
            .await
            .map(drop)
    }

    fn call<'b>(&self, plugin: &'b Plugin, path: &'b Path, extra: Extra<'_>) -> Call<'b> {
        let capabilities = self.attachment.map(|it| &it.capabilities);
        let extra = Extra {
            capabilities,
            ..extra
        };
        let stdin = request::build(self.list, plugin, extra);
        Call {
            plugin: &plugin.kind,
            path,
            command: self.command,
            env: self.env(),
            stdin,
        }
    }

    fn env(&self) -> Vec<(&'static str, OsString)> {
        let path = env::join_paths(&self.places.bin_dirs).unwrap_or_default();
        let mut env = vec![("CNI_PATH", path)];
        if let Some(attachment) = self.attachment {
            env.push(("CNI_CONTAINERID", attachment.container_id.clone().into()));
            env.push(("CNI_NETNS", self.netns(attachment)));
            env.push(("CNI_IFNAME", attachment.ifname.clone().into()));
            env.push(("CNI_ARGS", attachment.cni_args().into()));
        }
        env
    }

    /// DEL is given no path where there is no namespace behind it any more: plugins then release
    /// what they hold on the host, where a path that leads nowhere makes some of them fail.
    fn netns(&self, attachment: &Attachment) -> OsString {
        let given = attachment.netns.as_deref();
        let usable = given.filter(|path| self.command != Command::Del || is_namespace(path));
        usable
            .map(|path| path.as_os_str().to_owned())
            .unwrap_or_default()
    }

    /// In the order of the list; nothing was run when one is missing.
    pub(crate) async fn find_all(&self) -> Result<Vec<PathBuf>, Error> {
        let mut programs = Vec::with_capacity(self.list.plugins().len());
        for plugin in self.list.plugins() {
            programs.push(exec::find(&plugin.kind, &self.places.bin_dirs).await?);
        }
        Ok(programs)
    }

    pub(crate) async fn pass_gate(&self) -> Result<RwLockReadGuard<'_, ()>, Error> {
        timeout_at(self.deadline, self.places.gate.read())
            .await
            .map_err(|_| self.busy())
    }

    pub(crate) async fn close_gate(&self) -> Result<RwLockWriteGuard<'_, ()>, Error> {
        timeout_at(self.deadline, self.places.gate.write())
            .await
            .map_err(|_| self.busy())
    }

    /// A cache that cannot be read must not keep an attachment from being undone.
    async fn previous_of_del(&self) -> Option<AddResult> {
        if !self.list.version().has_check() {
            return None;
        }
        self.cached_result().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "DEL without the previous result");
            None
        })
    }

    pub(crate) async fn cached_result(&self) -> Result<Option<AddResult>, Error> {
        self.with_cache(Cache::result).await
    }

    async fn remember(&self, result: &AddResult) -> Result<(), Error> {
        let result = result.clone();
        self.with_cache(move |cache, list, attachment| cache.write(list, attachment, &result))
            .await
    }

    pub(crate) async fn forget(&self) -> Result<(), Error> {
        self.with_cache(Cache::remove).await
    }

    /// Away from the threads that other pods' operations run on: the disk may be slow.
    async fn with_cache<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache, &NetworkList, &Attachment) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let cache = self.places.cache.clone();
        let list = self.list.clone();
        let attachment = self.attachment.cloned().unwrap_or_default();
        blocking(move || work(&cache, &list, &attachment)).await
    }

    fn busy(&self) -> Error {
        Error::Busy {
            network: self.list.name().to_owned(),
            command: self.command,
        }
    }

    pub(crate) fn not_in_version(&self) -> Error {
        let (network, version) = (self.list.name().to_owned(), self.list.version());
        Error::NotInVersion {
            network,
            version,
            command: self.command,
        }
    }
}

/// The specification's code 3: no clean-up is needed.
fn has_nothing_to_undo(error: &Error) -> bool {
    error
        .plugin_error()
        .is_some_and(|it| it.code == PluginError::UNKNOWN_CONTAINER)
}

/// A pin whose mount is gone is an ordinary empty file.
fn is_namespace(path: &Path) -> bool {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    rustix::fs::statfs(path)
        .is_ok_and(|it| matches!(it.f_type as u64, NSFS_MAGIC | PROC_SUPER_MAGIC))
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
