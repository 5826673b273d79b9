//! A container by its directory, and what the commands do with it.

use super::arguments::Order;
use super::shim::{self, Shim};
use corten_shim::api::{CreateRequest, Request, State};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write, copy, pipe, stderr, stdout};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

const KILL: i32 = 9;
/// How long a container that was killed may take to be told as ended, in steps of a hundredth.
const PATIENCE: u32 = 1000;

/// A container's own directory.
pub struct Place(PathBuf);

/// Makes a container, up to the point where its program could be executed.
pub fn create(root: &Path, order: &Order) -> Result<(), String> {
    let bundle = fs::canonicalize(&order.bundle);
    let bundle = bundle.map_err(|e| format!("find {}: {e}", order.bundle.display()))?;
    fs::create_dir_all(root).map_err(|e| format!("make {}: {e}", root.display()))?;
    let place = Place(root.join(checked(&order.id)?));
    fs::create_dir(&place.0).map_err(|e| format!("make the container {}: {e}", order.id))?;
    let made = place.fill(root, order, &bundle);
    if made.is_err() {
        place.remove()?;
    }
    made
}

/// An id is the name of a directory.
fn checked(id: &str) -> Result<&str, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    match id != "." && id != ".." && id.chars().all(fine) {
        true => Ok(id),
        false => Err(format!("{id:?} is no id")),
    }
}

impl Place {
    /// The directory of a container that there is.
    pub fn of(root: &Path, id: &str) -> Result<Self, String> {
        let place = Self(root.join(checked(id)?));
        match place.0.join("state.json").exists() {
            true => Ok(place),
            false => Err(format!("no container {id}")),
        }
    }

    fn fill(&self, root: &Path, order: &Order, bundle: &Path) -> Result<(), String> {
        let log = File::create(self.0.join("shim.log")).map_err(|e| format!("shim.log: {e}"))?;
        let text = fs::read_to_string(bundle.join("config.json"));
        let text = text.map_err(|e| format!("read config.json: {e}"))?;
        let config: Value = serde_json::from_str(&text).map_err(|e| format!("config.json: {e}"))?;
        let mut shim = Shim::begin(&order.id, &self.0.join("s"), log)?;
        let bare = shim::bare()?;
        let request = CreateRequest {
            id: order.id.clone(),
            bundle: bundle.to_owned(),
            log_path: None,
            stdin: false,
            stdin_once: false,
            seccomp_filter: self.filter(&config)?,
            exit_record: self.0.join("exit.json"),
            bare: Some(format!("/proc/{}/fd/{}", process::id(), bare.as_raw_fd()).into()),
        };
        let silent = || "the shim does not tell the container's status".to_owned();
        let made = shim.call(Request::Create(request))?.0;
        let status = made.into_status().ok_or_else(silent)?;
        let state = json!({
            "id": order.id, "bundle": bundle, "annotations": config["annotations"],
            "pid": status.pid, "pump": begin_pump(root, &order.id)?,
        });
        self.write("state.json", state.to_string().as_bytes())?;
        match &order.pid_file {
            Some(path) => fs::write(path, status.pid.to_string())
                .map_err(|e| format!("write {}: {e}", path.display())),
            None => Ok(()),
        }
    }

    /// The filter of the bundle's seccomp section, as the daemon makes it.
    fn filter(&self, config: &Value) -> Result<Option<PathBuf>, String> {
        let section = &config["linux"]["seccomp"];
        if section.is_null() {
            return Ok(None);
        }
        let section: LinuxSeccomp = serde_json::from_value(section.clone())
            .map_err(|e| format!("config.json: linux.seccomp: {e}"))?;
        let program = corten::task::seccomp::program(&section).map_err(|e| e.to_string())?;
        self.write("filter", &program)?;
        Ok(Some(self.0.join("filter")))
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<(), String> {
        fs::write(self.0.join(name), text).map_err(|e| format!("write {name}: {e}"))
    }

    fn saved(&self) -> Result<Value, String> {
        let text = fs::read(self.0.join("state.json")).map_err(|e| format!("state.json: {e}"))?;
        serde_json::from_slice(&text).map_err(|e| format!("state.json: {e}"))
    }

    fn shim(&self) -> Result<Option<Shim>, String> {
        Shim::find(&self.0.join("s"))
    }

    fn status(&self) -> Result<State, String> {
        match self.shim()? {
            Some(mut shim) => Ok(shim.status()?.state),
            None => Ok(State::Exited),
        }
    }

    /// Carries the container's output on, until it ends. The shim lets go of those whose connection
    /// is closed, so this one is kept meanwhile.
    pub fn pump(root: &Path, id: &str) -> Result<(), String> {
        let shim = Shim::find(&root.join(checked(id)?).join("s"))?;
        let mut shim = shim.ok_or("the shim has gone")?;
        let wanted = Request::Attach {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let ends = shim.call(wanted)?.1;
        for end in &ends {
            // Made for clients that poll.
            let waits = rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::empty());
            waits.map_err(|e| format!("let the streams be waited for: {e}"))?;
        }
        let mut ends = ends.into_iter().map(File::from);
        let told = rustix::io::write(rustix::stdio::stdin(), b"r");
        told.map_err(|e| format!("tell that it begins: {e}"))?;
        let (mut out, mut err) = (ends.next(), ends.next());
        let errors = std::thread::spawn(move || err.as_mut().map(|from| copy(from, &mut stderr())));
        out.as_mut().map(|from| copy(from, &mut stdout()));
        errors.join().map_err(|_| "a thread failed")?;
        stdout().flush().map_err(|e| format!("write: {e}"))
    }

    pub fn start(&self) -> Result<(), String> {
        let shim = self.shim()?;
        let mut shim = shim.ok_or("the container has ended")?;
        shim.call(Request::Start).map(drop)
    }

    /// The state as the specification wants it told. One that has ended is told when all it has
    /// written is where it belongs.
    pub fn state(&self) -> Result<String, String> {
        let saved = self.saved()?;
        let status = match self.status()? {
            State::Empty => "creating",
            State::Created => "created",
            State::Running => "running",
            State::Exited => "stopped",
        };
        if let (Some(pump), "stopped") = (saved["pump"].as_i64(), status) {
            wait_for(|| !is_running(pump));
        }
        let pid = if status == "stopped" {
            &json!(0)
        } else {
            &saved["pid"]
        };
        let state = json!({
            "ociVersion": "1.3.0", "id": saved["id"], "status": status, "pid": pid,
            "bundle": saved["bundle"], "annotations": saved["annotations"],
        });
        Ok(format!("{state:#}"))
    }

    pub fn kill(&self, signal: i32) -> Result<(), String> {
        match (self.status()?, self.shim()?) {
            (State::Created | State::Running, Some(mut shim)) => {
                shim.call(Request::Signal { signal }).map(drop)
            }
            _ => Err("the container is neither created nor running".to_owned()),
        }
    }

    pub fn delete(&self, force: bool) -> Result<(), String> {
        match self.status()? {
            State::Exited => {}
            _ if force => {
                // One that ends by itself meanwhile is as good.
                let _ = self.kill(KILL);
                wait_for(|| self.status().is_ok_and(|state| state == State::Exited));
            }
            _ => return Err("the container has not ended".to_owned()),
        }
        if let Some(mut shim) = self.shim()? {
            shim.call(Request::Shutdown)?;
        }
        self.remove()
    }

    fn remove(&self) -> Result<(), String> {
        fs::remove_dir_all(&self.0).map_err(|e| format!("remove {}: {e}", self.0.display()))
    }
}

/// A process that carries the container's output to where this command's own goes, also when this
/// command has ended. Returns when nothing can be missed any more.
fn begin_pump(root: &Path, id: &str) -> Result<u32, String> {
    let (mut ready, theirs) = pipe().map_err(|e| format!("make a pipe: {e}"))?;
    let program = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
    let mut pump = Command::new(program);
    pump.arg("--root").arg(root).args(["pump", id]);
    // Its stdin is written to: the one descriptor that is no output.
    let pump = pump.stdin(theirs).spawn();
    let pump = pump.map_err(|e| format!("start the pump: {e}"))?;
    match ready.read(&mut [0; 1]) {
        Ok(1) => Ok(pump.id()),
        _ => Err("the pump does not begin".to_owned()),
    }
}

fn is_running(pid: i64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn wait_for(holds: impl Fn() -> bool) {
    for _ in 0..PATIENCE {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
