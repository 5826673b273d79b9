//! The program's front: which plugin, which command, and what is printed.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::Kind;
use super::call::{Call, Env, stdin};
use super::chain;
use super::fault::{Doing, Outcome};
use super::netns::{self, Netns};
use crate::error::PluginError;
use crate::version::Version;

/// Its argument before the name of a plugin.
const VERB_PLUGIN: &str = "plugin";
/// Its argument before the name of a link that is to be deleted.
pub(crate) const VERB_SWEEP: &str = "sweep";
/// Its argument for all plugins of a list at once.
pub(crate) const VERB_CHAIN: &str = "chain";

const USAGE: &str = "corten-cni: Corten's bundled CNI plugins
usage: corten-cni plugin NAME    with the CNI_* variables and a configuration on stdin, as CNI has it
       or by a link that has a plugin's name
       corten-cni chain          all plugins of a list at once, as Corten's daemon asks
       corten-cni sweep LINK     deletes the host's end of a pair that outlived its pod
plugins: ";

/// Runs what is asked for by the program's name and arguments.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let own = arguments.next().unwrap_or_default();
    let name = Path::new(&own)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let words: Vec<String> = arguments
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let asked = match (Kind::of(&name), &words[..]) {
        (None, [verb]) if *verb == VERB_CHAIN => return finish(all().map(Some)),
        (None, [verb, link]) if *verb == VERB_SWEEP => return finish(sweep(link).map(|()| None)),
        (Some(kind), _) => Some(kind),
        (None, [verb, name]) if *verb == VERB_PLUGIN => Kind::of(name),
        _ => None,
    };
    asked.map_or_else(usage, plugin)
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}{}", Kind::ALL.map(Kind::name).join(", "));
    ExitCode::from(2)
}

fn plugin(kind: Kind) -> ExitCode {
    if env::var_os("CNI_COMMAND").is_none_or(|value| value.is_empty()) {
        let spoken = Version::ALL.map(Version::as_str).join(", ");
        eprintln!(
            "CNI plugin {} of Corten\nCNI protocol versions supported: {spoken}",
            kind.name()
        );
        return ExitCode::SUCCESS;
    }
    finish(run(kind))
}

fn finish(done: Outcome<Option<String>>) -> ExitCode {
    match done {
        Ok(text) => print(text.as_deref().unwrap_or_default(), ExitCode::SUCCESS),
        Err(error) => print(&error.to_json(Version::V1_1_0.as_str()), ExitCode::FAILURE),
    }
}

fn run(kind: Kind) -> Outcome<Option<String>> {
    let env = Env::read()?;
    if env.command == "VERSION" {
        let spoken: Vec<_> = kind.versions().iter().map(|it| it.as_str()).collect();
        let newest = Version::V1_1_0.as_str();
        return Ok(Some(
            json!({"cniVersion": newest, "supportedVersions": spoken}).to_string(),
        ));
    }
    let stdin = stdin()?;
    let call = Call::new(&env, &stdin)?;
    refuse_own_namespace(&env)?;
    kind.run(&call)
}

/// Only the end of a pair: what a pod has left.
fn sweep(name: &str) -> Outcome<()> {
    let what = || format!("delete the link {name:?}");
    let mut links = netns::links()?;
    match links.link(name).doing(what)? {
        Some(link) if link.kind == "veth" => links.delete_link(link.index).doing(what),
        _ => Ok(()),
    }
}

/// All plugins of a list.
fn all() -> Outcome<String> {
    let env = Env::read()?;
    let stdin = stdin()?;
    refuse_own_namespace(&env)?;
    let told = chain::run(&env, &stdin)?;
    Ok(serde_json::to_string(&told).expect("texts and numbers can be written"))
}

/// A pod whose namespace is the plugin's own would have the host's links, and its DEL would take them.
/// Looked at before anything is done; a path that is no namespace is the plugin's to judge.
fn refuse_own_namespace(env: &Env) -> Outcome<()> {
    if env.own_netns || env.netns.is_empty() {
        return Ok(());
    }
    match Netns::find(&env.netns) {
        Ok(Some(netns)) if netns.is_own()? => Err(PluginError::new(
            PluginError::INVALID_NETNS,
            "plugin's netns and netns from CNI_NETNS should not be the same",
        )),
        _ => Ok(()),
    }
}

/// What nobody reads any more is nobody's loss.
fn print(text: &str, code: ExitCode) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
