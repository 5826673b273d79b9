//! Programs in a directory, each asked for its verdict.
//!
//! ```text
//! PROGRAM -name NAME -digest DIGEST -stdin-media-type application/vnd.oci.descriptor.v1+json
//!   stdin   the descriptor as JSON        stdout  the reason
//!   exit 0  may be used                   else    may not
//! ```
//! Of the daemon's environment it sees what [`ENVIRONMENT`] names, and nothing else.
//! Source: containerd's `docs/image-verification.md`. Every entry of the directory is a verifier,
//! in the order of their names; the first that does not say yes ends it. Without the directory, or
//! with an empty one, nothing is refused.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};
use tracing::{debug, warn};

use super::{Error, Subject, Verifier};

/// What stdin holds.
const STDIN_TYPE: &str = "application/vnd.oci.descriptor.v1+json";
/// What a verifier is told of its surroundings: what it needs to find programs, its own files and
/// the registry's signatures. containerd hands its whole environment on; a daemon's may hold secrets
/// that are none of a verifier's business.
pub(super) const ENVIRONMENT: [&str; 14] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "DOCKER_CONFIG",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];
/// Where programs are looked for where the daemon has no PATH itself.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of each stream that are kept; the rest is read and forgotten.
const LONGEST_OUTPUT: u64 = 32 * 1024;

/// Verifiers in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// Where they are. It may be absent.
    pub directory: PathBuf,
    /// So many are asked, by their names' order; further ones are passed over with a warning.
    pub most: usize,
    /// One that takes longer is killed, and has refused.
    pub time_limit: Duration,
}

/// What one program printed.
#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// A running verifier, in a process group of its own: given up, it ends with what it started.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // An error says that nothing of it is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[async_trait]
impl Verifier for Programs {
    async fn verify(&self, subject: &Subject) -> Result<(), Error> {
        let names = self.names().map_err(|source| Error::List {
            directory: self.directory.display().to_string(),
            source,
        })?;
        if names.len() > self.most {
            let (there, asked) = (names.len(), self.most);
            warn!(directory = %self.directory.display(), there, asked, "verifiers are passed over");
        }
        for name in names.iter().take(self.most) {
            self.ask(name, subject).await?;
        }
        Ok(())
    }
}

impl Programs {
    /// The entries of the directory in order; none where it is not there.
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name = |entry: io::Result<std::fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        let mut names: Vec<String> = entries.map(name).collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    async fn ask(&self, program: &str, subject: &Subject) -> Result<(), Error> {
        let (mut output, path) = (Output::default(), self.directory.join(program));
        let run = run(&path, subject, &mut output);
        let ended = tokio::time::timeout(self.time_limit, run).await;
        debug!(program, image.r#ref = %subject.name, stderr = %text(&output.stderr), "verifier asked");
        let (program, image) = (program.to_owned(), about(subject));
        let output = output.reason();
        let failed = |source| Error::Failed {
            program: program.clone(),
            image: image.clone(),
            output: output.clone(),
            source,
        };
        match ended {
            Err(_) => Err(Error::TooLate {
                program,
                image,
                seconds: self.time_limit.as_secs_f64(),
                output,
            }),
            Ok(status) => match status.map_err(failed)? {
                status if status.success() => Ok(()),
                status => match status.code() {
                    Some(code) => Err(Error::Refused {
                        program,
                        image,
                        code,
                        output,
                    }),
                    None => Err(failed(killed(status))),
                },
            },
        }
    }
}

/// Runs one to its end; what it printed is in `output`, also when this is given up.
async fn run(program: &Path, subject: &Subject, output: &mut Output) -> io::Result<ExitStatus> {
    let mut running = start(program, subject)?;
    let child = &mut running.child;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let descriptor = serde_json::to_vec(&subject.target)?;
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not read has its verdict all the same.
            let _ = stdin.write_all(&descriptor).await;
        }
    };
    let Output {
        stdout: out,
        stderr: err,
    } = output;
    let (out, err) = (keep(stdout, out), keep(stderr, err));
    let (status, (), (), ()) = tokio::join!(child.wait(), write, out, err);
    // Nobody holds its streams any more.
    running.group = None;
    status
}

fn start(program: &Path, subject: &Subject) -> io::Result<Running> {
    let child = Command::new(program)
        .args(["-name", &subject.name.to_string()])
        .args(["-digest", subject.target.digest.as_str()])
        .args(["-stdin-media-type", STDIN_TYPE])
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .envs(
            ENVIRONMENT
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    Ok(Running {
        group: group.and_then(Pid::from_raw),
        child,
    })
}

/// Keeps the beginning and reads on to the end, so that nobody writes into a closed pipe.
async fn keep(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut beginning = (&mut stream).take(LONGEST_OUTPUT);
    if beginning.read_to_end(into).await.is_ok() {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

impl Output {
    /// What it gives as its reason; some say it on the wrong stream.
    fn reason(&self) -> String {
        match text(&self.stdout) {
            reason if reason.is_empty() => text(&self.stderr),
            reason => reason,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn about(subject: &Subject) -> String {
    format!("{} ({})", subject.name, subject.target.digest)
}

fn killed(status: ExitStatus) -> io::Error {
    let signal = status.signal().unwrap_or_default();
    io::Error::other(format!("it was ended by signal {signal}"))
}
