//! `corten-shim`: one binary, one verb a process. See the library.

use corten_shim::api::Failure;
use corten_shim::{pause, sandbox};
use rustix::fd::OwnedFd;
use std::ffi::OsString;
use std::process::ExitCode;

const USAGE: &str = "\
usage: corten-shim sandbox
       corten-shim pause
       corten-shim --version

The daemon `corten` starts these; `sandbox` with a SEQPACKET socket as descriptor 0.
";

fn main() -> ExitCode {
    close_inherited();
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    match verb.to_str() {
        Some("sandbox") if rest.is_empty() => told(take_socket().and_then(|s| sandbox::run(&s))),
        Some("pause") if rest.is_empty() => told(pause::run()),
        Some("--version") => {
            println!("corten-shim {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some("sandbox" | "pause") => usage(&format!("{verb:?} takes no options")),
        _ => usage(&format!("{verb:?} is no verb")),
    }
}

/// Closes what the starter has left open behind stderr: a shim or a holder would keep it open for
/// as long as it lives.
fn close_inherited() {
    // Refused by a kernel before 5.9 only; then it is as the starter left it.
    let _ = corten_shim::sys::descriptors::close_all_but(rustix::stdio::stdin());
}

/// Takes the daemon's socket away from descriptor 0, where children would look for their input.
fn take_socket() -> Result<OwnedFd, Failure> {
    let step = "take descriptor 0";
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(|errno| Failure::system(step, errno))?;
    let null = std::fs::File::open("/dev/null").map_err(|error| {
        let errno = rustix::io::Errno::from_io_error(&error);
        Failure::system("open /dev/null", errno.unwrap_or(rustix::io::Errno::IO))
    })?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| Failure::system(step, errno))?;
    Ok(socket)
}

fn told(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("corten-shim: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn usage(problem: &str) -> ExitCode {
    eprint!("corten-shim: {problem}\n{USAGE}");
    ExitCode::from(2)
}
