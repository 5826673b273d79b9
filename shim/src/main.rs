//! `corten-shim`: one binary, one verb a process. See the library.
//!
//! It does without std's own start, whose look at the stack brings a tenth of glibc with it; what
//! that start also does, and a shim needs, is in [`begin`].

#![no_main]

#[path = "sys/entry.rs"]
mod entry;

use corten_shim::api::{ANY, Failure, SPARE};
use corten_shim::failure::log;
use corten_shim::parent::oom_score;
use corten_shim::server::real::{Parent, Work};
use corten_shim::server::{self, Options, birth};
use corten_shim::sys::{descriptors, signal};
use corten_shim::{cgroup, cgroups, dial, exec, pause, sandbox, title};
use rustix::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

const USAGE: &str = "\
usage: corten-shim run --id ID --socket PATH [--cgroup PATH]
       corten-shim exec [--spare]
       corten-shim dial [--spare]
       corten-shim sandbox [--spare]
       corten-shim pause
       corten-shim --version

The daemon `corten` starts these, and `sandbox` starts `pause`, with a SEQPACKET socket as
descriptor 0.
";

/// What `main` does; the exit code.
fn start() -> u8 {
    begin();
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    match verb.to_str() {
        Some("run") => run(&rest),
        Some("exec") if is_plain(&rest) => {
            if !rest.is_empty() {
                // Nobody waits for it yet.
                cgroup::look_ahead();
            }
            told(take_socket().and_then(|s| exec::run(&s)))
        }
        Some("dial") if is_plain(&rest) => told(take_socket().and_then(|s| dial::run(&s))),
        Some("sandbox") if is_plain(&rest) => told(take_socket().and_then(|s| sandbox::run(&s))),
        Some("pause") if rest.is_empty() => told(take_socket().and_then(pause::run)),
        Some("exec" | "dial" | "sandbox" | "pause") => usage(&format!("{verb:?} takes no options")),
        Some("--version") => {
            println!("corten-shim {}", env!("CARGO_PKG_VERSION"));
            0
        }
        _ => usage(&format!("{verb:?} is no verb")),
    }
}

/// Nothing is said, but perhaps that the request may take a while to come.
fn is_plain(arguments: &[OsString]) -> bool {
    arguments.iter().all(|argument| argument == SPARE)
}

fn run(arguments: &[OsString]) -> u8 {
    match options(arguments) {
        Ok((options, cgroup)) => begin_shim(options, cgroup),
        Err(problem) => usage(&problem),
    }
}

/// In the cgroup of shims from the first moment, where there is one that a process can be born in.
fn begin_shim(options: Options, cgroup: Option<PathBuf>) -> u8 {
    let home = cgroup.as_deref().map(cgroups::birthplace);
    match home.transpose() {
        Ok(Some(Some(directory))) => code(birth::in_cgroup(&directory, |starter| {
            let starter = Some(starter);
            be_shim(Options { starter, ..options }, None)
        })),
        Ok(_) => be_shim(options, cgroup),
        Err(failure) => told(Err(failure)),
    }
}

/// `home` is the cgroup of shims, where this process is not in it yet.
fn be_shim(options: Options, home: Option<PathBuf>) -> u8 {
    // Before the shim takes a score of its own.
    let oom_score = oom_score();
    let home = match home {
        // Nobody waits for it yet.
        Some(home) if options.id == ANY => match cgroups::enter(&home) {
            Ok(()) => None,
            Err(failure) => return told(Err(failure)),
        },
        home => home,
    };
    if options.id == ANY {
        cgroup::look_ahead();
        title::look_ahead();
    }
    let mut parent = Parent {
        oom_score,
        home,
        work: Work::default(),
    };
    told(take_socket().and_then(|first| server::run(options, first, &mut parent)))
}

fn options(arguments: &[OsString]) -> Result<(Options, Option<PathBuf>), String> {
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
    let options = Options {
        id: id.into_string().map_err(|id| format!("{id:?} is no id"))?,
        socket,
        starter: None,
    };
    Ok((options, cgroup.map(PathBuf::from)))
}

/// Makes the process what all verbs expect: descriptors 0 to 2 are there, those behind them are
/// not (a shim or a holder would keep them open for as long as it lives), and a reader that has
/// gone is an error, not a signal.
fn begin() {
    // Refused by a kernel before 5.9 only; then it is as the starter left it.
    let _ = descriptors::close_all_but(&[]);
    while let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        if null.as_raw_fd() > 2 {
            break;
        }
        // It has taken the place of a missing one, and stays.
        let _ = null.into_raw_fd();
    }
    signal::ignore_broken_pipes();
    // The daemon starts it by a descriptor, after which the kernel would name it.
    let _ = rustix::thread::set_name(c"corten-shim");
}

/// Takes the daemon's socket away from descriptor 0, where children would look for their input.
fn take_socket() -> Result<OwnedFd, Failure> {
    let step = "take descriptor 0";
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(|errno| Failure::system(step, errno))?;
    let null = File::open("/dev/null").map_err(|error| {
        let errno = rustix::io::Errno::from_io_error(&error);
        Failure::system("open /dev/null", errno.unwrap_or(rustix::io::Errno::IO))
    })?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| Failure::system(step, errno))?;
    Ok(socket)
}

fn told(result: Result<(), Failure>) -> u8 {
    code(result.map(|()| 0))
}

fn code(result: Result<u8, Failure>) -> u8 {
    match result {
        Ok(code) => code,
        Err(failure) => {
            log(format_args!("corten-shim: {failure}"));
            1
        }
    }
}

fn usage(problem: &str) -> u8 {
    log(format_args!("corten-shim: {problem}\n{}", USAGE.trim_end()));
    2
}
