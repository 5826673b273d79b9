//! A container's state, in the JSON of the OCI runtime specification: what hooks read on their
//! stdin, and what who decides for a filter is told.

use crate::bundle::Annotations;
use serde::Serialize;
use std::path::Path;

/// The version of the specification that these texts comply with.
const VERSION: &str = "1.3.0";

/// A container, as far as its state tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: &'a Path,
    /// What the bundle says for others.
    pub annotations: &'a Annotations<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "is_nobody")]
    pid: i32,
    bundle: &'a Path,
    annotations: &'a Annotations<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: State<'a>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_nobody(pid: &i32) -> bool {
    *pid == 0
}

impl<'a> Identity<'a> {
    /// The state; 0 is no process.
    #[must_use]
    pub fn state(&self, status: &'static str, pid: i32) -> String {
        text(&self.of(status, pid))
    }

    /// The state of a process whose filter asks a listener, which comes beside it.
    #[must_use]
    pub fn process_state(&self, status: &'static str, pid: i32, metadata: &str) -> String {
        text(&ProcessState {
            oci_version: VERSION,
            fds: ["seccompFd"],
            pid,
            metadata,
            state: self.of(status, pid),
        })
    }

    fn of(&self, status: &'static str, pid: i32) -> State<'a> {
        State {
            oci_version: VERSION,
            id: self.id,
            status,
            pid,
            bundle: self.bundle,
            annotations: self.annotations,
        }
    }
}

/// Numbers, lists and texts: nothing of it can fail. (A path that is no text was refused with the
/// request.)
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_there_is_not_named() {
        let annotations = Annotations::from([("a".into(), "b\n".into())]);
        let identity = Identity {
            id: "x",
            bundle: Path::new("/b"),
            annotations: &annotations,
        };
        assert_eq!(
            identity.state("stopped", 0),
            r#"{"ociVersion":"1.3.0","id":"x","status":"stopped","bundle":"/b","annotations":{"a":"b\n"}}"#
        );
        let state = identity.process_state("creating", 7, "m");
        assert!(state.starts_with(
            r#"{"ociVersion":"1.3.0","fds":["seccompFd"],"pid":7,"metadata":"m","state":{"#
        ));
        assert!(state.contains(r#""status":"creating","pid":7"#), "{state}");
    }
}
