//! The node's processes. The node has a PID namespace of its own, so these are all there are.

use corten_shim::api::{ANY, SPARE};
use rustix::process::{Pid, Signal};
use std::fs;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Process {
    /// It is a `corten-shim VERB`.
    pub fn is_shim(&self, verb: &str) -> bool {
        let program = self.arguments.first().map_or("", String::as_str);
        program.ends_with("/corten-shim") && self.arguments.get(1).is_some_and(|v| v == verb)
    }

    /// One of its arguments is this.
    pub fn names(&self, argument: &str) -> bool {
        self.arguments.iter().any(|one| one == argument)
    }
}

/// All processes that have arguments (neither kernel threads nor zombies have), but what a
/// daemon keeps in reserve.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let processes = pids.filter_map(read);
    let in_reserve = |one: &Process| one.names(ANY) || one.names(SPARE);
    processes.filter(|one| !in_reserve(one)).collect()
}

/// The shim of a container.
pub fn shim_of(container: &str) -> Option<Process> {
    all()
        .into_iter()
        .find(|process| process.is_shim("run") && process.names(container))
}

/// A process of this number exists and has not ended.
pub fn lives(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which is in parentheses and may hold any of those itself.
    let state = state
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// What a link below `/proc/PID` names, such as `ns/net`.
pub fn link(pid: &str, name: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    link.to_str().unwrap().to_owned()
}

/// SIGKILL, by another program's hand: this one has no need for unsafe code.
pub fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

/// SIGTERM.
pub fn terminate(pid: u32) {
    send(pid, Signal::TERM);
}

fn send(pid: u32, signal: Signal) {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(number, signal).unwrap();
}

fn read(pid: u32) -> Option<Process> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = text
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    let arguments: Vec<_> = arguments
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    (!arguments.is_empty()).then_some(Process { pid, arguments })
}
