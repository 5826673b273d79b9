//! A command line as runc has one, over the protocol of `corten-shim`: what suites that test OCI
//! runtimes are given.
//!
//! ```text
//! create: shim run ◀─ Hello, Create, Attach ─ this program; a process of its own carries the output on
//! start, state, kill, delete: ─ Hello, … ─▶ the shim's own socket
//! ```
//! The shim is `$CORTEN_SHIM`. What is known of a container is in a directory of its own below
//! `--root` (or `$CORTEN_OCI_ROOT`): its socket, its exit record, its filter, `state.json`.
//!
//! Invariant: nothing is decided here that is a runtime's to decide: a bundle goes to the shim as it
//! is. Only the seccomp section is compiled here, since the daemon does that.

mod arguments;
mod container;
mod shim;

use arguments::{Command, parse};
use container::Place;
use std::process::ExitCode;

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("oci-runtime: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run((root, command): (std::path::PathBuf, Command)) -> Result<(), String> {
    match command {
        Command::Create(order) => container::create(&root, &order),
        Command::Pump(id) => Place::pump(&root, &id),
        Command::Start(id) => Place::of(&root, &id)?.start(),
        Command::State(id) => Place::of(&root, &id)?
            .state()
            .map(|state| println!("{state}")),
        Command::Kill { id, signal } => Place::of(&root, &id)?.kill(signal),
        Command::Delete { id, force } => Place::of(&root, &id)?.delete(force),
    }
}
