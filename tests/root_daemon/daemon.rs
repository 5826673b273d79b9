//! The daemon's process.

use crate::wait::until;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const CONFIG: &str = "/etc/corten/corten.toml";
/// Lines of the daemon's log that are shown when a case fails.
const SHOWN: usize = 150;

/// A `corten serve` with the node's usual places.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; CNI plugins are looked for in `plugins` first.
    pub fn start(scratch: &Path, plugins: &Path) -> Self {
        let shim = Path::new(env!("CARGO_BIN_EXE_corten")).with_file_name("corten-shim");
        assert!(
            shim.is_file(),
            "no {}: the daemon looks for it there; run `cargo build -p corten-shim` or tests/run root",
            shim.display()
        );
        let bin_dirs = [plugins, Path::new("/opt/cni/bin")];
        fs::write(
            CONFIG,
            format!("log = \"debug\"\n[cni]\nbin_dirs = {bin_dirs:?}\n"),
        )
        .unwrap();
        let log = scratch.join("corten.log");
        let child = spawn(&log);
        Self { child, log }
    }

    /// What its next start reads beside the level of its log.
    pub fn configure(&self, tables: &str) {
        fs::write(CONFIG, format!("log = \"debug\"\n{tables}\n")).unwrap();
    }

    /// Starts it again after [`Daemon::kill`].
    pub fn start_again(&mut self) {
        self.child = spawn(&self.log);
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; returns when it has ended as it was told.
    pub async fn terminate(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = async || self.child.try_wait().unwrap();
        let status = until("the daemon ends", 60, ended).await;
        assert!(status.success(), "{status}\n{}", self.tail());
    }

    /// Panics when it has ended by itself.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the daemon has ended: {status}\n{}", self.tail());
        }
    }

    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the daemon's log\n{}\n---", self.tail());
        }
        // What it made goes with the node.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_corten"))
        .args(["serve", "--config", CONFIG])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
