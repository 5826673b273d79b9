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
use crate::bundle::Bundle;
use crate::cache::Cache;
use crate::conf::{NetworkList, Plugin};
use crate::error::{Command, Error, PluginError};
use crate::exec::{self, Call};
use crate::request::{self, Extra};
use crate::result::AddResult;
use crate::whole::Manner;

/// What all operations of a client share.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Searched for plugins in this order.
    pub(crate) bin_dirs: Vec<PathBuf>,
    /// Whose directory is one of these.
    pub(crate) bundle: Option<Bundle>,
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
    /// The attachment's namespace is let go right after this DEL.
    pub(crate) namespace_ends: bool,
}

impl Places {
    pub(crate) fn bundle_program(&self) -> Option<PathBuf> {
        self.bundle.as_ref().map(|it| it.program().to_owned())
    }
}

impl Chain<'_> {
    pub(crate) async fn add(&self, programs: &[PathBuf]) -> Result<AddResult, Error> {
        let result = match self.whole() {
            Some(program) => self.add_whole(program).await?,
            None => self.add_each(programs).await?,
        };
        self.remember(&result).await?;
        Ok(result)
    }

    async fn add_each(&self, programs: &[PathBuf]) -> Result<AddResult, Error> {
        let mut result: Option<AddResult> = None;
        for (plugin, program) in self.list.plugins().iter().zip(programs) {
            let prev_result = result.as_ref().map(AddResult::json);
            result = Some(self.add_one(plugin, program, prev_result).await?);
        }
        Ok(result.expect("a list without plugins is refused when it is read"))
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
        if let Some(program) = self.whole() {
            first(self.do_whole(program, after(prev.as_ref()), BACKWARD).await)?;
            return self.forget().await;
        }
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
            let program = exec::find(&ipam, &self.places.bin_dirs)?;
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
        if let Some(program) = self.whole() {
            let each = Manner {
                goes_on: true,
                ..BACKWARD
            };
            errors.extend(self.do_whole(program, Extra::default(), each).await);
        } else {
            for plugin in self.list.plugins().iter().rev() {
                errors.extend(self.del_one(plugin, None).await.err());
            }
        }
        errors.extend(self.forget().await.err());
        errors
    }

    async fn del_one(&self, plugin: &Plugin, prev: Option<&AddResult>) -> Result<(), Error> {
        let program = exec::find(&plugin.kind, &self.places.bin_dirs)?;
        match self.run(plugin, &program, after(prev)).await {
            Err(error) if has_nothing_to_undo(&error) => Ok(()),
            outcome => outcome,
        }
    }

    pub(crate) async fn check(&self) -> Result<(), Error> {
        let prev = self.cached_result().await?;
        if let Some(program) = self.whole() {
            let extra = after(prev.as_ref());
            return first(self.do_whole(program, extra, Manner::default()).await);
        }
        for plugin in self.list.plugins() {
            let program = exec::find(&plugin.kind, &self.places.bin_dirs)?;
            self.run(plugin, &program, after(prev.as_ref())).await?;
        }
        Ok(())
    }

    pub(crate) async fn status(&self, programs: &[PathBuf]) -> Result<(), Error> {
        if let Some(program) = self.whole() {
            let extra = Extra::default();
            return first(self.do_whole(program, extra, Manner::default()).await);
        }
        for (plugin, program) in self.list.plugins().iter().zip(programs) {
            self.run(plugin, program, Extra::default()).await?;
        }
        Ok(())
    }

    pub(crate) async fn gc(&self, valid: &Value) -> Vec<Error> {
        let extra = Extra {
            valid_attachments: Some(valid),
            ..Extra::default()
        };
        if let Some(program) = self.whole() {
            let each = Manner {
                goes_on: true,
                ..Manner::default()
            };
            return self.do_whole(program, extra, each).await;
        }
        let mut errors = Vec::new();
        for plugin in self.list.plugins() {
            errors.extend(self.gc_one(plugin, extra).await.err());
        }
        errors
    }

    async fn gc_one(&self, plugin: &Plugin, extra: Extra<'_>) -> Result<(), Error> {
        let program = exec::find(&plugin.kind, &self.places.bin_dirs)?;
        self.run(plugin, &program, extra).await
    }

    /// A command without an answer.
    async fn run(&self, plugin: &Plugin, program: &Path, extra: Extra<'_>) -> Result<(), Error> {
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
        let stdin = request::build(self.list, plugin, extra).into_bytes();
        Call {
            plugin: &plugin.kind,
            path,
            arguments: &[],
            command: self.command,
            env: self.env(),
            stdin,
        }
    }

    pub(crate) fn env(&self) -> Vec<(&'static str, OsString)> {
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
    pub(crate) fn find_all(&self) -> Result<Vec<PathBuf>, Error> {
        let plugins = self.list.plugins().iter();
        let find = |plugin: &Plugin| exec::find(&plugin.kind, &self.places.bin_dirs);
        plugins.map(find).collect()
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

const BACKWARD: Manner = Manner {
    backward: true,
    goes_on: false,
};

/// What a plugin is told of the one before.
fn after(prev: Option<&AddResult>) -> Extra<'_> {
    Extra {
        prev_result: prev.map(AddResult::json),
        ..Extra::default()
    }
}

fn first(errors: Vec<Error>) -> Result<(), Error> {
    errors.into_iter().next().map_or(Ok(()), Err)
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
