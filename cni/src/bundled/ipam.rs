//! The plugin that gives addresses: our own, or another program.

use std::env;
use std::io::Write;
use std::process::{Command, Stdio};

use super::answer::Answer;
use super::call::Call;
use super::fault::{Doing, Outcome};
use super::host_local;
use crate::error::PluginError;
use crate::result::AddResult;

const HOST_LOCAL: &str = "host-local";

pub(crate) fn add(kind: &str, call: &Call<'_>) -> Outcome<Answer> {
    if kind == HOST_LOCAL {
        return host_local::add(call);
    }
    let printed = run(kind, "ADD", call)?;
    let result = AddResult::parse(&printed, call.version);
    result.map(Answer::from).map_err(|why| {
        PluginError::internal(format!(
            "the IPAM plugin {kind} answered with something that is no result: {why}"
        ))
    })
}

pub(crate) fn del(kind: &str, call: &Call<'_>) -> Outcome<()> {
    match kind {
        HOST_LOCAL => host_local::del(call),
        _ => run(kind, "DEL", call).map(drop),
    }
}

pub(crate) fn check(kind: &str, call: &Call<'_>) -> Outcome<()> {
    match kind {
        HOST_LOCAL => host_local::check(call),
        _ => run(kind, "CHECK", call).map(drop),
    }
}

pub(crate) fn status(kind: &str, call: &Call<'_>) -> Outcome<()> {
    match kind {
        HOST_LOCAL => host_local::status(call),
        _ => run(kind, "STATUS", call).map(drop),
    }
}

pub(crate) fn gc(kind: &str, call: &Call<'_>) -> Outcome<()> {
    match kind {
        HOST_LOCAL => host_local::gc(call),
        _ => run(kind, "GC", call).map(drop),
    }
}

/// With the environment of this process, whose command may be another one (an ADD that is undone).
fn run(kind: &str, command: &str, call: &Call<'_>) -> Outcome<Vec<u8>> {
    if kind.contains('/') {
        let msg = format!("the IPAM plugin {kind:?} is no name of a plugin");
        return Err(PluginError::new(PluginError::INVALID_CONFIG, msg));
    }
    let mut directories = env::split_paths(&call.env.path);
    let path = directories
        .find_map(|dir| Some(dir.join(kind)).filter(|path| path.is_file()))
        .ok_or_else(|| {
            let msg = format!("failed to find plugin {kind:?} in path [{}]", call.env.path);
            PluginError::internal(msg)
        })?;
    let what = || format!("run the IPAM plugin {}", path.display());
    let mut program = Command::new(&path);
    program
        .env("CNI_COMMAND", command)
        .env("CNI_NETNS", &call.env.netns)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child = program.spawn().doing(what)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin need not read it.
        let _ = stdin.write_all(call.stdin.as_bytes());
    }
    let output = child.wait_with_output().doing(what)?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(told(kind, &output.stdout)),
    }
}

fn told(kind: &str, printed: &[u8]) -> PluginError {
    let value: serde_json::Value = serde_json::from_slice(printed).unwrap_or_default();
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let code = value["code"]
        .as_u64()
        .and_then(|code| u32::try_from(code).ok());
    match code {
        Some(code) => PluginError {
            code,
            msg: text("msg"),
            details: text("details"),
        },
        None => PluginError::internal(format!("the IPAM plugin {kind} failed and did not say why")),
    }
}
