//! All plugins of a list in one run of the program.
//!
//! ```text
//! Ask (stdin): what each plugin's own stdin would be, in the order of their turns
//!    ADD: p1 ─result─▶ p2 ─result─▶ p3        others: p1, p2, p3, each with what it was given
//! Told (stdout): the last result, the plugins that failed, the links that the namespace's end takes
//! ```
//!
//! Invariant: each plugin sees what it would see as a program of its own, and what it answers is told
//! with its name.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Kind;
use super::call::{Call, Ending, Env};
use super::fault::Outcome;
use crate::error::PluginError;

/// What the program is asked.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ask<'a> {
    /// What each plugin would be given, in the order of their turns.
    #[serde(borrow)]
    pub(crate) plugins: Vec<&'a RawValue>,
    /// After a failure the others are asked all the same.
    pub(crate) goes_on: bool,
    /// The pod's namespace is let go right after this DEL, and takes its links along.
    pub(crate) namespace_ends: bool,
}

/// What became of it.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Of the last plugin of an ADD.
    pub(crate) result: Option<Box<RawValue>>,
    /// In the order of their turns.
    pub(crate) failures: Vec<Failure>,
    /// Links of the host that are down, and go with the pod's namespace.
    pub(crate) left: Vec<String>,
}

/// One plugin's error.
#[derive(Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) plugin: String,
    pub(crate) code: u32,
    pub(crate) msg: String,
    pub(crate) details: String,
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

/// Runs the plugins; what one of them fails with is told, and no failure of this.
pub(crate) fn run(env: &Env, stdin: &str) -> Outcome<Told> {
    let ask: Ask<'_> = serde_json::from_str(stdin).map_err(undecodable)?;
    let kinds: Vec<_> = ask.plugins.iter().map(kind).collect::<Outcome<_>>()?;
    let ending = ask.namespace_ends.then(Ending::default);
    let mut told = Told::default();
    for (kind, raw) in kinds.into_iter().zip(&ask.plugins) {
        let stdin = with_prev_result(raw, told.result.as_deref());
        match turn(kind, env, &stdin, ending.as_ref()) {
            Ok(result) => told.result = result,
            Err(error) if has_nothing_to_undo(env, &error) => {}
            Err(error) => told.failures.push(failure(kind, error)),
        }
        if !told.failures.is_empty() && !ask.goes_on {
            break;
        }
    }
    told.left = ending.map(Ending::into_left).unwrap_or_default();
    Ok(told)
}

fn turn(
    kind: Kind,
    env: &Env,
    stdin: &str,
    ending: Option<&Ending>,
) -> Outcome<Option<Box<RawValue>>> {
    let mut call = Call::new(env, stdin)?;
    call.ending = ending;
    let answer = kind.run(&call)?;
    answer
        .map(|text| RawValue::from_string(text).map_err(undecodable))
        .transpose()
}

/// As the client has it for a plugin that is run alone.
fn has_nothing_to_undo(env: &Env, error: &PluginError) -> bool {
    env.command == "DEL" && error.code == PluginError::UNKNOWN_CONTAINER
}

fn kind(raw: &&RawValue) -> Outcome<Kind> {
    let typed: Typed = serde_json::from_str(raw.get()).map_err(undecodable)?;
    Kind::of(&typed.kind).ok_or_else(|| {
        let msg = format!("the plugin {:?} is not bundled", typed.kind);
        PluginError::new(PluginError::INVALID_CONFIG, msg)
    })
}

fn failure(kind: Kind, error: PluginError) -> Failure {
    Failure {
        plugin: kind.name().to_owned(),
        code: error.code,
        msg: error.msg,
        details: error.details,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn undecodable(error: serde_json::Error) -> PluginError {
    let msg = format!("what the chain is asked or answers is no JSON of its shape: {error}");
    PluginError::new(PluginError::DECODING_FAILURE, msg)
}

/// As the last key of the object.
fn with_prev_result(raw: &RawValue, prev: Option<&RawValue>) -> String {
    let own = raw.get().trim_end();
    match (prev, own.strip_suffix('}')) {
        (Some(prev), Some(open)) => format!("{open},\"prevResult\":{}}}", prev.get()),
        _ => own.to_owned(),
    }
}
