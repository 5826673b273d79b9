//! One run of one plugin: found, started, fed, listened to, and ended when its time is over.
//!
//! ```text
//! spawn (own process group) ─▶ stdin ◀─ request      deadline, or the caller went away
//!        │                     stdout ─▶ answer                    │
//!        │                     stderr ─▶ last 4 KiB                ▼
//!        ▼                                            SIGKILL to group and descendants,
//!      exit ─▶ wait ≤ 500 ms for the pipes' end       reaped ─▶ PluginTimeout
//! ```
//!
//! Invariant: when [`run`] has returned, or its future was dropped, the plugin does not run any
//! more. A background child of a plugin that ended by itself is left alone, and not waited for.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{env, io};

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::{Command, Error, PluginError};
use crate::kill::kill_tree;

/// No result is larger.
const LARGEST_ANSWER: usize = 1 << 20;
/// What is kept of stderr.
const STDERR_TAIL: usize = 4 << 10;
/// What an error message shows of an output.
const SHOWN: usize = 400;
/// For the pipes of a plugin that has exited: a background child may hold them.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// For a killed plugin to be gone; one stuck in the kernel is reaped by tokio when it comes back.
const REAP_GRACE: Duration = Duration::from_secs(2);
/// A plugin that is just being installed is busy this long at most.
const BUSY_TRIES: u32 = 250;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// For a daemon that was started with no environment: plugins call `iptables` and `nft`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run, and for what.
pub(crate) struct Call<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) path: &'a Path,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) command: Command,
    /// The `CNI_*` variables but `CNI_COMMAND`.
    pub(crate) env: Vec<(&'static str, OsString)>,
    pub(crate) stdin: Vec<u8>,
}

/// The plugin's program: the first regular file of that name in the directories. A look that takes a
/// microsecond: to hand it to another thread would take fifty.
pub(crate) fn find(plugin: &str, directories: &[PathBuf]) -> Result<PathBuf, Error> {
    for directory in directories {
        let path = directory.join(plugin);
        if path.is_file() {
            return Ok(path);
        }
    }
    Err(Error::PluginMissing {
        plugin: plugin.to_owned(),
        searched: directories.to_vec(),
    })
}

/// Runs the plugin and gives back what it printed to stdout.
pub(crate) async fn run(call: &Call<'_>, deadline: Instant) -> Result<Vec<u8>, Error> {
    let started = Instant::now();
    if started >= deadline {
        return Err(Error::NoTimeLeft {
            plugin: call.plugin.to_owned(),
            command: call.command,
        });
    }
    let mut running = Running {
        child: start(call, deadline).await?,
    };
    let mut printed = Printed::default();
    let talked = timeout_at(
        deadline,
        talk(&mut running.child, &call.stdin, &mut printed),
    )
    .await;
    let took = started.elapsed();
    let answer = match talked {
        Ok(Ok(status)) => judge(call, status, &mut printed),
        Ok(Err(source)) => Err(call.io_error(source)),
        Err(_) => {
            running.end().await;
            Err(call.timed_out(took, &printed))
        }
    };
    tracing::debug!(
        cni.plugin = call.plugin,
        cni.command = call.command.as_str(),
        took_ms = took.as_millis(),
        ok = answer.is_ok(),
        stderr = shown(&printed.stderr),
        "plugin ran"
    );
    answer
}

// === Running: a plugin that dies with its owner ===

struct Running {
    child: Child,
}

impl Running {
    async fn end(&mut self) {
        self.kill();
        let _ = timeout(REAP_GRACE, self.child.wait()).await;
    }

    /// A child that was waited for has no id any more: another process may have it.
    fn kill(&self) {
        if let Some(pid) = self.child.id() {
            kill_tree(pid);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn start(call: &Call<'_>, deadline: Instant) -> Result<Child, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match command(call).spawn() {
            Ok(child) => return Ok(child),
            Err(error) if is_busy(&error) && tries < BUSY_TRIES && Instant::now() < deadline => {
                sleep(BUSY_PAUSE).await;
            }
            Err(source) => return Err(call.start_error(source)),
        }
    }
}

/// The file is open for writing: somebody installs it.
fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ExecutableFileBusy
}

fn command(call: &Call<'_>) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(call.path);
    command.args(call.arguments);
    for (key, _) in env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"CNI_")) {
        command.env_remove(key);
    }
    if env::var_os("PATH").is_none() {
        command.env("PATH", PATH);
    }
    command.env("CNI_COMMAND", call.command.as_str());
    command.envs(call.env.iter().map(|(key, value)| (key, value)));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.process_group(0);
    command
}

// === the pipes ===

#[derive(Default)]
struct Printed {
    stdout: Vec<u8>,
    /// More than [`LARGEST_ANSWER`] came; the rest was thrown away.
    stdout_overflowed: bool,
    /// The end of it.
    stderr: Vec<u8>,
}

async fn talk(child: &mut Child, input: &[u8], printed: &mut Printed) -> io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let Printed {
        stdout: out,
        stdout_overflowed: overflowed,
        stderr: err,
    } = printed;
    let keep_head = |bytes: &[u8]| {
        let room = LARGEST_ANSWER.saturating_sub(out.len()).min(bytes.len());
        out.extend_from_slice(&bytes[..room]);
        *overflowed |= room < bytes.len();
    };
    let keep_tail = |bytes: &[u8]| {
        err.extend_from_slice(bytes);
        err.drain(..err.len().saturating_sub(STDERR_TAIL));
    };
    let pipes = async {
        tokio::join!(
            feed(stdin, input),
            listen(stdout, keep_head),
            listen(stderr, keep_tail)
        );
    };
    tokio::pin!(pipes);
    tokio::select! {
        () = &mut pipes => child.wait().await,
        status = child.wait() => {
            let _ = timeout(PIPE_GRACE, pipes).await;
            status
        }
    }
}

/// A plugin need not read its stdin: a broken pipe is its business.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
}

async fn listen(pipe: Option<impl AsyncRead + Unpin>, mut keep: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8 << 10];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        keep(&buffer[..count]);
    }
}

// === the answer ===

fn judge(call: &Call<'_>, status: ExitStatus, printed: &mut Printed) -> Result<Vec<u8>, Error> {
    if let Some(signal) = status.signal() {
        return Err(call.killed(signal, printed));
    }
    if !status.success() {
        return Err(call.failed(status.code().unwrap_or(-1), printed));
    }
    if printed.stdout_overflowed {
        return Err(call.bad_output("it is larger than 1 MiB".to_owned(), &printed.stdout));
    }
    Ok(std::mem::take(&mut printed.stdout))
}

impl Call<'_> {
    /// The plugin exited well and `stdout` is not what the command answers.
    pub(crate) fn bad_output(&self, reason: String, stdout: &[u8]) -> Error {
        let (plugin, command) = (self.plugin.to_owned(), self.command);
        Error::PluginOutput {
            plugin,
            command,
            reason,
            output: shown(stdout),
        }
    }

    fn start_error(&self, source: io::Error) -> Error {
        let (plugin, command) = (self.plugin.to_owned(), self.command);
        Error::PluginStart {
            plugin,
            command,
            path: self.path.to_owned(),
            source,
        }
    }

    fn io_error(&self, source: io::Error) -> Error {
        Error::PluginIo {
            plugin: self.plugin.to_owned(),
            command: self.command,
            source,
        }
    }

    fn timed_out(&self, after: Duration, printed: &Printed) -> Error {
        let (plugin, command) = (self.plugin.to_owned(), self.command);
        Error::PluginTimeout {
            plugin,
            command,
            after,
            stderr: shown(&printed.stderr),
        }
    }

    fn killed(&self, signal: i32, printed: &Printed) -> Error {
        let (plugin, command) = (self.plugin.to_owned(), self.command);
        Error::PluginKilled {
            plugin,
            command,
            signal,
            stderr: shown(&printed.stderr),
        }
    }

    fn failed(&self, code: i32, printed: &Printed) -> Error {
        let (plugin, command) = (self.plugin.to_owned(), self.command);
        let told = told_error(&printed.stdout).or_else(|| told_error(&printed.stderr));
        if let Some(error) = told {
            return Error::PluginFailed {
                plugin,
                command,
                error,
            };
        }
        let output = [printed.stdout.as_slice(), printed.stderr.as_slice()].concat();
        Error::PluginExited {
            plugin,
            command,
            code,
            output: shown(&output),
        }
    }
}

/// The specification names both streams as the place of the error structure.
fn told_error(output: &[u8]) -> Option<PluginError> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        code: u32,
        msg: String,
        #[serde(default)]
        details: String,
    }
    let Wire { code, msg, details } = serde_json::from_slice(output).ok()?;
    Some(PluginError { code, msg, details })
}

/// The end of an output, in one line.
fn shown(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(&output[output.len().saturating_sub(SHOWN)..]);
    match text.trim() {
        "" => "nothing".to_owned(),
        text => format!("{text:?}"),
    }
}
