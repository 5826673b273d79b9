//! A command on a list whose plugins are all bundled: one process for the whole of it.
//!
//! Invariant: what the caller sees is what it would see of a process for each plugin: the same result, the
//! same error of the same plugin.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde_json::value::RawValue;

use crate::bundled::VERB_CHAIN;
use crate::bundled::chain::{Ask, Failure, Told};
use crate::chain::Chain;
use crate::conf::Plugin;
use crate::error::{Error, PluginError};
use crate::exec::{self, Call};
use crate::request::{self, Extra};
use crate::result::AddResult;

/// For a namespace that was let go to take its links along; the kernel needs milliseconds.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// What one of these runs is to do beside the command.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    pub(crate) backward: bool,
    pub(crate) goes_on: bool,
}

impl Chain<'_> {
    /// The program, where the list's plugins that will be run are all bundled.
    pub(crate) fn whole(&self) -> Option<&Path> {
        let bundle = self.places.bundle.as_ref()?;
        let is_bundled = |plugin: &Plugin| {
            let path = exec::find(&plugin.kind, &self.places.bin_dirs);
            path.is_ok_and(|path| bundle.is_whole(plugin, &path))
        };
        let all = self.list.plugins().iter().all(is_bundled);
        all.then(|| bundle.program())
    }

    pub(crate) async fn add_whole(&self, program: &Path) -> Result<AddResult, Error> {
        let told = self
            .run_whole(program, Extra::default(), Manner::default())
            .await?;
        if let Some(error) = self.errors(told.failures).into_iter().next() {
            return Err(error);
        }
        let text = told.result.as_deref().map_or("", RawValue::get);
        AddResult::parse(text.as_bytes(), self.list.version()).map_err(|reason| {
            self.call_whole(&self.types(), program, Vec::new())
                .bad_output(reason, text.as_bytes())
        })
    }

    /// A command without an answer; what the plugins failed with, in the order of their turns.
    pub(crate) async fn do_whole(
        &self,
        program: &Path,
        extra: Extra<'_>,
        manner: Manner,
    ) -> Vec<Error> {
        match self.run_whole(program, extra, manner).await {
            Err(error) => vec![error],
            Ok(told) => {
                see_off(told.left, self.places.bundle_program());
                self.errors(told.failures)
            }
        }
    }

    async fn run_whole(
        &self,
        program: &Path,
        extra: Extra<'_>,
        manner: Manner,
    ) -> Result<Told, Error> {
        let types = self.types();
        let stdin = self.ask(extra, manner);
        let call = self.call_whole(&types, program, stdin);
        let stdout = exec::run(&call, self.deadline).await?;
        serde_json::from_slice(&stdout).map_err(|error| call.bad_output(error.to_string(), &stdout))
    }

    fn ask(&self, extra: Extra<'_>, manner: Manner) -> Vec<u8> {
        let extra = Extra {
            capabilities: self.attachment.map(|it| &it.capabilities),
            ..extra
        };
        let build = |plugin: &Plugin| {
            let text = request::build(self.list, plugin, extra);
            RawValue::from_string(text).expect("a request is built of JSON values")
        };
        let mut texts: Vec<_> = self.list.plugins().iter().map(build).collect();
        if manner.backward {
            texts.reverse();
        }
        let ask = Ask {
            plugins: texts.iter().map(|text| &**text).collect(),
            goes_on: manner.goes_on,
            namespace_ends: self.namespace_ends,
        };
        serde_json::to_vec(&ask).expect("texts can be written")
    }

    fn call_whole<'b>(&self, types: &'b str, program: &'b Path, stdin: Vec<u8>) -> Call<'b> {
        Call {
            plugin: types,
            path: program,
            arguments: &[VERB_CHAIN],
            command: self.command,
            env: self.env(),
            stdin,
        }
    }

    /// For what befalls the process as a whole.
    fn types(&self) -> String {
        self.list.plugin_types().collect::<Vec<_>>().join("+")
    }

    fn errors(&self, failures: Vec<Failure>) -> Vec<Error> {
        let command = self.command;
        let error = |it: Failure| Error::PluginFailed {
            plugin: it.plugin,
            command,
            error: PluginError {
                code: it.code,
                msg: it.msg,
                details: it.details,
            },
        };
        failures.into_iter().map(error).collect()
    }
}

/// Looks a while later whether the links are gone. Somebody else may keep the namespace (a private copy
/// of the mounts in which it is pinned); then they are deleted, each apart.
fn see_off(links: Vec<String>, program: Option<PathBuf>) {
    let known: Vec<_> = links
        .into_iter()
        .filter_map(|name| Some((index(&name)?, name)))
        .collect();
    let Some(program) = program.filter(|_| !known.is_empty()) else {
        return;
    };
    tokio::spawn(async move {
        tokio::time::sleep(ENDS_WITHIN).await;
        for (number, name) in known {
            if index(&name).as_ref() == Some(&number) {
                sweep(&program, &name).await;
            }
        }
    });
}

/// The kernel's number for the link of that name.
fn index(name: &str) -> Option<u32> {
    let flags = SocketFlags::CLOEXEC;
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok()?;
    name_to_index(any, name).ok()
}

async fn sweep(program: &Path, name: &str) {
    let swept = tokio::process::Command::new(program)
        .args([crate::bundled::VERB_SWEEP, name])
        .stdin(std::process::Stdio::null())
        .status()
        .await;
    match swept {
        Ok(status) if status.success() => {
            tracing::info!(
                link = name,
                "a pod's link outlived its namespace's release and is deleted"
            );
        }
        _ => tracing::warn!(link = name, "a pod's link outlived its namespace's release"),
    }
}
