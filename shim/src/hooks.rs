//! Hooks: programs of the bundle's that are run at points of a container's life.
//!
//! ```text
//! create   prestart, createRuntime  the deputy, on the host     mounts are made, the root is the host's
//!          createContainer          the init, in its namespaces
//! start    startContainer           the init, as the program    behind the filter, before the execve
//!          poststart                the deputy                  the answer to Start waits for it
//! shutdown poststop                 the deputy                  the cgroup has gone; also after a failed create
//! ```
//! Invariant: a hook has the container's state on its stdin, its output and its exit code are in the
//! failure, and where it has a time-out it is killed then with all of its session.

pub mod deputy;

use crate::api::{Failure, FailureKind};
use crate::bundle::{Hook, text::Text};
use crate::failure::{At, log};
use crate::sys::clone::fork;
use crate::sys::exec::{Pointers, execve};
use crate::sys::{descriptors, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, Mode, SeekFrom};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, waitpid};
use std::ffi::CString;
use std::time::{Duration, Instant};

/// How often it is looked whether a hook has ended whose output is held open, or that has a time-out.
const LOOK: Duration = Duration::from_millis(5);
/// How much of a hook's output a failure tells: the end of it.
const TOLD: usize = 1024;

/// A container's state as a file: what each of a point's hooks reads from the beginning.
///
/// # Errors
/// What the kernel says.
pub fn state_file(state: &str) -> Result<OwnedFd, Failure> {
    let step = || "write the state for hooks".to_owned();
    let file = rustix::fs::memfd_create(c"state", MemfdFlags::CLOEXEC);
    let file = file.at(FailureKind::System, step)?;
    match rustix::io::write(&file, state.as_bytes()).at(FailureKind::System, step)? {
        written if written == state.len() => Ok(file),
        _ => Err(Failure::system(step(), Errno::NOSPC)),
    }
}

/// Runs hooks in their order, up to the first that fails.
///
/// # Errors
/// [`FailureKind::Invalid`] for one that cannot be run; [`FailureKind::System`] for one that fails,
/// with how and with its output.
pub fn run(hooks: &[Hook<'_>], state: &OwnedFd) -> Result<(), Failure> {
    hooks.iter().try_for_each(|hook| run_one(hook, state))
}

/// Runs all hooks in their order. One that fails is told in the log.
pub fn run_all(hooks: &[Hook<'_>], state: &OwnedFd) {
    for hook in hooks {
        if let Err(failure) = run_one(hook, state) {
            log(format_args!("level=warn {failure}"));
        }
    }
}

fn run_one(hook: &Hook<'_>, state: &OwnedFd) -> Result<(), Failure> {
    let step = || format!("run the hook {}", hook.path);
    let deadline = deadline(hook)?;
    let program = program(hook)?;
    let (output, inner) = pipe_with(PipeFlags::CLOEXEC).at(FailureKind::System, step)?;
    let pid = fork(|| become_hook(&program, state, &inner)).at(FailureKind::System, step)?;
    drop(inner);
    let mut said = Vec::new();
    let end = watch(pid, &output, deadline, &mut said).at(FailureKind::System, step)?;
    let failed = |how: String| {
        let start = said.len().saturating_sub(TOLD);
        let said = String::from_utf8_lossy(&said[start..]);
        Failure {
            kind: FailureKind::System,
            ..Failure::invalid(step(), format!("{how}; it said: {}", said.trim()))
        }
    };
    match end.map(|end| (end.exit_status(), end.terminating_signal())) {
        Some((Some(0), _)) => Ok(()),
        Some((Some(code), _)) => Err(failed(format!("it ended with {code}"))),
        Some((None, signal)) => Err(failed(format!("signal {} ended it", signal.unwrap_or(0)))),
        None => Err(failed(format!(
            "it took longer than {} s and was killed",
            hook.timeout.unwrap_or(0)
        ))),
    }
}

fn invalid(hook: &Hook<'_>, cause: &str) -> Failure {
    Failure::invalid(format!("run the hook {}", hook.path), cause)
}

fn deadline(hook: &Hook<'_>) -> Result<Option<Instant>, Failure> {
    let Some(seconds) = hook.timeout else {
        return Ok(None);
    };
    match u64::try_from(seconds) {
        Ok(seconds @ 1..) => Ok(Instant::now().checked_add(Duration::from_secs(seconds))),
        _ => Err(invalid(hook, "its time-out is not greater than zero")),
    }
}

struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

fn program(hook: &Hook<'_>) -> Result<Program, Failure> {
    if !hook.path.starts_with('/') {
        return Err(invalid(hook, "its path is not absolute"));
    }
    let string = |text: &Text<'_>| {
        CString::new(text.as_bytes()).map_err(|_| invalid(hook, "it holds a NUL byte"))
    };
    let strings = |texts: &[Text<'_>]| texts.iter().map(string).collect::<Result<Vec<_>, _>>();
    let path = string(&hook.path)?;
    let mut args = strings(&hook.args)?;
    if args.is_empty() {
        args.push(path.clone());
    }
    Ok(Program {
        path,
        args,
        env: strings(&hook.env)?,
    })
}

/// What the hook's process does; its exit code where it does not become the hook.
fn become_hook(program: &Program, state: &OwnedFd, output: &OwnedFd) -> i32 {
    let ready = rustix::fs::seek(state, SeekFrom::Start(0))
        .and_then(|_| rustix::stdio::dup2_stdin(state))
        .and_then(|()| rustix::stdio::dup2_stdout(output))
        .and_then(|()| rustix::stdio::dup2_stderr(output))
        .and_then(|()| descriptors::close_all_but(&[]))
        // Killed with whom it has started.
        .and_then(|()| rustix::process::setsid().map(drop))
        .and_then(|()| signal::reset());
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let errno = match ready {
        Ok(()) => execve(
            &program.path,
            &Pointers::new(&program.args),
            &Pointers::new(&program.env),
        ),
        Err(errno) => errno,
    };
    log(format_args!("{}", std::io::Error::from(errno)));
    127
}

/// Reads what it says until it has ended; `None` when its time was up. Others may hold its output
/// open, so it is looked for, too.
fn watch(
    pid: Pid,
    output: &OwnedFd,
    deadline: Option<Instant>,
    said: &mut Vec<u8>,
) -> Result<Option<WaitStatus>, Errno> {
    let mut ended_output = false;
    loop {
        if ended_output {
            std::thread::sleep(LOOK.min(Duration::from_millis(1)));
        } else {
            ended_output = read_for_a_moment(output, said)?;
        }
        let options = WaitOptions::NOHANG;
        if let Some((_, end)) = rustix::io::retry_on_intr(|| waitpid(Some(pid), options))? {
            while !ended_output && is_readable(output, Duration::ZERO)? {
                ended_output = read(output, said)?;
            }
            return Ok(Some(end));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let _ = kill_process_group(pid, Signal::KILL);
            // It may not have made its own session yet.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()))?;
            return Ok(None);
        }
    }
}

fn read_for_a_moment(output: &OwnedFd, said: &mut Vec<u8>) -> Result<bool, Errno> {
    match is_readable(output, LOOK)? {
        true => read(output, said),
        false => Ok(false),
    }
}

fn is_readable(output: &OwnedFd, patience: Duration) -> Result<bool, Errno> {
    let patience = Timespec::try_from(patience).unwrap_or_default();
    let mut fds = [PollFd::new(output, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&patience)))? > 0)
}

/// Reads once; true at the end. Of much only the end is kept.
fn read(output: &OwnedFd, said: &mut Vec<u8>) -> Result<bool, Errno> {
    let mut piece = [0; 4096];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(output, &mut piece))?;
    said.extend_from_slice(&piece[..length]);
    let most = said.len().saturating_sub(TOLD);
    said.drain(..most);
    Ok(length == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell<'a>(script: &'a str, timeout: Option<i64>) -> Hook<'a> {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["PATH=/bin:/usr/bin".into(), "A=b".into()],
            timeout,
        }
    }

    #[test]
    fn each_reads_the_state_and_a_failure_tells_the_output() {
        let state = state_file("the state").unwrap();
        let reads = r#"[ "$(cat)" = "the state" ] && [ $A = b ]"#;
        run(&[shell(reads, None), shell(reads, Some(9))], &state).unwrap();
        let failure = run(&[shell("echo out; echo err >&2; exit 7", None)], &state).unwrap_err();
        let cause = &failure.chain[0];
        assert!(
            cause.contains("with 7") && cause.contains("out\nerr"),
            "{cause}"
        );
        let missing = Hook {
            path: "/no/such".into(),
            ..Hook::default()
        };
        let failure = run(&[missing], &state).unwrap_err();
        assert!(failure.to_string().contains("No such file"), "{failure}");
    }

    #[test]
    fn one_that_takes_too_long_is_killed_and_one_that_leaves_a_daemon_has_ended() {
        let state = state_file("").unwrap();
        let failure = run(&[shell("sleep 600", Some(1))], &state).unwrap_err();
        assert!(failure.chain[0].contains("longer than 1 s"), "{failure}");
        run(&[shell("sleep 3 &", None)], &state).unwrap();
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let state = state_file("").unwrap();
        assert!(run(&[shell("true", Some(0))], &state).is_err());
        let relative = Hook {
            path: "true".into(),
            ..Hook::default()
        };
        assert!(run(&[relative], &state).is_err());
    }
}
