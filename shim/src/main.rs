//! `corten-shim`: one binary, one verb a process. See the library.

use corten_shim::api::Failure;
use corten_shim::server::real::Parent;
use corten_shim::server::{self, Options};
use corten_shim::{exec, pause, sandbox};
use rustix::fd::OwnedFd;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: corten-shim run --id ID --socket PATH [--cgroup PATH]
       corten-shim exec
       corten-shim sandbox
       corten-shim pause
       corten-shim --version

The daemon `corten` starts these, all but `pause` with a SEQPACKET socket as descriptor 0.
";

fn main() -> ExitCode {
    close_inherited();
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    match verb.to_str() {
        Some("run") => run(&rest),
        Some("sandbox") if rest.is_empty() => told(take_socket().and_then(|s| sandbox::run(&s))),
        Some("exec") if rest.is_empty() => match take_socket() {
            Ok(socket) => exec::run(&socket),
            Err(failure) => told(Err(failure)),
        },
        Some("pause") if rest.is_empty() => told(pause::run()),
        Some("exec" | "sandbox" | "pause") => usage(&format!("{verb:?} takes no options")),
        Some("--version") => {
            println!("corten-shim {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => usage(&format!("{verb:?} is no verb")),
    }
}

fn run(arguments: &[OsString]) -> ExitCode {
    match options(arguments) {
        Ok(options) => {
            told(take_socket().and_then(|first| server::run(&options, first, &mut Parent)))
        }
        Err(problem) => usage(&problem),
    }
}

fn options(arguments: &[OsString]) -> Result<Options, String> {
    let (mut id, mut socket, mut cgroup) = (None, None, None);
    for pair in arguments.chunks(2) {
        let [name, value] = pair else {
            return Err(format!("{:?} lacks its value", pair[0]));
        };
        let place = match name.to_str() {
            Some("--id") => &mut id,
            Some("--socket") => &mut socket,
            Some("--cgroup") => &mut cgroup,
            _ => return Err(format!("{name:?} is no option of run")),
        };
        *place = Some(value.clone());
    }
    let id = id.ok_or("--id is missing")?;
    let socket = PathBuf::from(socket.ok_or("--socket is missing")?);
    if !socket.is_absolute() {
        return Err(format!("--socket {} is no absolute path", socket.display()));
    }
    Ok(Options {
        id: id.into_string().map_err(|id| format!("{id:?} is no id"))?,
        socket,
        cgroup: cgroup.map(PathBuf::from),
    })
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
