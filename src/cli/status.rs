//! `corten status`.

use super::ask::{Output, connect, print, refused};
use super::table::table;
use crate::error::Result;
use clap::Args;
use corten_proto::admin::v1::{Condition, StateCount, StatusRequest, StatusResponse};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

/// How to show the status.
#[derive(Debug, Clone, Args)]
pub struct StatusArguments {
    /// Socket of the daemon to ask; by default the configuration's.
    #[arg(long, value_name = "SOCKET")]
    pub endpoint: Option<String>,

    /// Form of the answer.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Shows it. The exit code is 0 where pods can be run, and 1 where a condition does not hold.
///
/// # Errors
/// Where the daemon cannot be reached.
pub async fn status(endpoint: &Path, output: Output) -> Result<ExitCode> {
    let mut daemon = connect(endpoint).await?;
    let answer = daemon.status(StatusRequest {}).await;
    let status = answer.map_err(|e| refused(&e))?.into_inner();
    match output {
        Output::Table => print(&for_a_person(&status))?,
        Output::Json => print(&format!("{:#}", for_a_program(&status)))?,
    }
    Ok(
        match status.conditions.iter().all(|condition| condition.ok) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
    )
}

fn for_a_person(status: &StatusResponse) -> String {
    let daemon = status.daemon.clone().unwrap_or_default();
    let cgroup = status.cgroup.clone().unwrap_or_default();
    let counts = status.counts.clone().unwrap_or_default();
    let mut rows = vec![
        row(
            "corten",
            format!(
                "{}, process {}, up {}",
                daemon.version,
                daemon.pid,
                time(daemon.uptime)
            ),
        ),
        row("endpoint", daemon.endpoint),
        row("root", daemon.root),
        row("state", daemon.state),
        row("configuration", files(&status.config_files)),
        row("cgroups", format!("{}, {}", cgroup.version, cgroup.driver)),
        row("sandboxes", count(&counts.sandboxes)),
        row("containers", count(&counts.containers)),
        row("images", count(&counts.images)),
    ];
    rows.extend(
        status
            .conditions
            .iter()
            .map(|c| row(&c.r#type, condition(c))),
    );
    rows.extend(
        status
            .host
            .iter()
            .map(|fact| row(&fact.name, said(&fact.value, &fact.detail))),
    );
    table(&rows)
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

fn files(files: &[String]) -> String {
    match files {
        [] => "all defaults".to_owned(),
        some => some.join(", "),
    }
}

fn count(counts: &[StateCount]) -> String {
    let each: Vec<_> = counts
        .iter()
        .map(|c| format!("{} {}", c.count, c.state))
        .collect();
    match each.is_empty() {
        true => "none".to_owned(),
        false => each.join(", "),
    }
}

fn condition(condition: &Condition) -> String {
    match condition.ok {
        true => "yes".to_owned(),
        false => format!("NO, {}: {}", condition.reason, condition.message),
    }
}

fn said(value: &str, detail: &str) -> String {
    match detail.is_empty() {
        true => value.to_owned(),
        false => format!("{value} ({detail})"),
    }
}

/// Nanoseconds in the two largest units that a person reads.
fn time(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    match (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    ) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

fn for_a_program(status: &StatusResponse) -> Value {
    let daemon = status.daemon.clone().unwrap_or_default();
    let cgroup = status.cgroup.clone().unwrap_or_default();
    let counts = status.counts.clone().unwrap_or_default();
    let states = |counts: &[StateCount]| -> Value {
        counts
            .iter()
            .map(|c| (c.state.clone(), json!(c.count)))
            .collect()
    };
    let host: Value = status
        .host
        .iter()
        .map(|f| (f.name.clone(), json!(f.value)))
        .collect();
    let conditions = status
        .conditions
        .iter()
        .map(|c| json!({"type": c.r#type, "ok": c.ok, "reason": c.reason, "message": c.message}));
    json!({
        "version": daemon.version,
        "pid": daemon.pid,
        "startedAt": daemon.started_at,
        "uptime": daemon.uptime,
        "root": daemon.root,
        "state": daemon.state,
        "endpoint": daemon.endpoint,
        "configFiles": status.config_files,
        "cgroup": {"driver": cgroup.driver, "version": cgroup.version},
        "host": host,
        "conditions": conditions.collect::<Vec<_>>(),
        "counts": {
            "sandboxes": states(&counts.sandboxes),
            "containers": states(&counts.containers),
            "images": states(&counts.images),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_is_told_with_its_reason() {
        let status = StatusResponse {
            conditions: vec![Condition {
                r#type: "NetworkReady".into(),
                ok: false,
                reason: "NetworkPluginNotReady".into(),
                message: "no conflist".into(),
            }],
            ..Default::default()
        };
        let text = for_a_person(&status);
        assert!(
            text.contains("NO, NetworkPluginNotReady: no conflist"),
            "{text}"
        );
        assert_eq!(for_a_program(&status)["conditions"][0]["ok"], json!(false));
    }

    #[test]
    fn a_time_has_two_units() {
        assert_eq!(time(5_000_000_000), "5 s");
        assert_eq!(time(65_000_000_000), "1 min 5 s");
        assert_eq!(time(90_061_000_000_000), "1 d 1 h");
    }
}
