//! A shim that the test has started, and the daemon's side of its protocol.

#[path = "../sandbox/bare.rs"]
mod bare;

use corten_shim::api::{
    ANY, Answer, Call, CreateRequest, EventKind, ExitRecord, Failure, Health, Message, NEWEST,
    OLDEST, Reply, Request, Status,
};
use corten_shim::packet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, socketpair,
};
use rustix::process::Pid;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SHIM: &str = env!("CARGO_BIN_EXE_corten-shim");

/// What the bundle of a test differs in.
#[derive(Default)]
struct Bundle {
    arguments: Vec<String>,
    terminal: bool,
    memory: Option<u64>,
    cgroup_of_shims: Option<String>,
    chroot: bool,
    without_bare: bool,
    in_reserve: bool,
}

/// A shim.
pub struct Shim {
    dir: TempDir,
    /// The id of its container.
    pub id: String,
    stdin: bool,
    child: Child,
    daemon: Option<OwnedFd>,
    bare: Option<OwnedFd>,
    calls: u64,
    events: Vec<EventKind>,
}

impl Shim {
    /// A shim whose container is to run a script.
    pub fn new(script: &str) -> Self {
        Self::with_arguments(&["/bin/sh", "-c", script])
    }

    /// … with a limit of its memory, in bytes.
    pub fn with_memory(script: &str, limit: u64) -> Self {
        let memory = Some(limit);
        Self::of(&Bundle {
            memory,
            ..shell(script)
        })
    }

    /// … on a terminal.
    pub fn with_terminal(script: &str) -> Self {
        Self::of(&Bundle {
            terminal: true,
            ..shell(script)
        })
    }

    /// … with the shim in a cgroup of shims.
    pub fn in_cgroup(script: &str, cgroup: &str) -> Self {
        let cgroup_of_shims = Some(cgroup.to_owned());
        Self::of(&Bundle {
            cgroup_of_shims,
            ..shell(script)
        })
    }

    /// … with the shim in a chroot, which shows the same files at the same places.
    pub fn in_chroot(script: &str) -> Self {
        let chroot = true;
        Self::of(&Bundle {
            chroot,
            ..shell(script)
        })
    }

    /// … and no mount namespace but the host's to begin from, as on a node that cannot have one.
    pub fn in_chroot_without_bare(script: &str) -> Self {
        Self::of(&Bundle {
            chroot: true,
            without_bare: true,
            ..shell(script)
        })
    }

    /// … with the shim started before its container is known.
    pub fn in_reserve(script: &str) -> Self {
        let in_reserve = true;
        Self::of(&Bundle {
            in_reserve,
            ..shell(script)
        })
    }

    /// A shim whose container is to execute a program.
    pub fn with_arguments(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&one| one.to_owned()).collect();
        Self::of(&Bundle {
            arguments,
            ..Bundle::default()
        })
    }

    fn of(bundle: &Bundle) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = dir
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .replace('.', "");
        let mut id = format!("corten-test-{name}");
        let mut told = (id.clone(), dir.path().join("s"));
        if bundle.in_reserve {
            let digits = name.bytes().map(|byte| format!("{byte:02x}"));
            id = format!("{:a>64}", digits.collect::<String>());
            told = (ANY.to_owned(), dir.path().join(&ANY[..32]));
        }
        make_bundle(dir.path(), &id, bundle);
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let child = program(bundle.chroot.then(|| dir.path().join("chroot")))
            .args(["run", "--id", &told.0, "--socket"])
            .arg(told.1)
            .args(
                bundle
                    .cgroup_of_shims
                    .iter()
                    .flat_map(|path| ["--cgroup", path]),
            )
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let daemon = Some(ours);
        let mut shim = Self {
            dir,
            id,
            stdin: false,
            child,
            daemon,
            bare: (!bundle.without_bare).then(|| bare::make(Path::new(SHIM))),
            calls: 0,
            events: Vec::new(),
        };
        shim.hello();
        shim
    }

    /// Who held the bare mount namespace has gone.
    pub fn forget_bare(&mut self) {
        self.bare = Some(std::fs::File::open("/dev/null").unwrap().into());
    }

    /// The container is to have a stdin.
    pub fn stdin(&mut self) {
        self.stdin = true;
    }

    /// Makes the bundle unreadable.
    pub fn break_bundle(&self) {
        std::fs::write(self.path("config.json"), "{").unwrap();
    }

    /// What Create is asked.
    pub fn request(&self) -> CreateRequest {
        CreateRequest {
            id: self.id.clone(),
            bundle: self.dir.path().to_owned(),
            log_path: Some(self.path("logs/0.log")),
            stdin: self.stdin,
            stdin_once: false,
            seccomp_filter: None,
            exit_record: self.path("exit.json"),
            bare: self.bare.as_ref().map(bare::path),
        }
    }

    /// Begins with its cgroup, and waits until that is there.
    pub fn prepare(&mut self) {
        self.prepare_cgroup(&format!("/{}", self.id));
    }

    /// … with one of another name.
    pub fn prepare_cgroup(&mut self, path: &str) {
        let request = Request::Prepare {
            id: self.id.clone(),
            cgroup: path.to_owned(),
        };
        self.ok(request);
        let deadline = Instant::now() + Duration::from_secs(20);
        while cgroups_of(&path[1..]).is_empty() {
            assert!(Instant::now() < deadline, "no cgroup is made");
            std::thread::yield_now();
        }
    }

    /// The directories that its container's cgroup has.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroups_of(&self.id)
    }

    /// The daemon goes away, and the shim with it.
    pub fn leave(&mut self) {
        self.daemon = None;
        assert!(self.child.wait().unwrap().success());
    }

    /// Kills the shim.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Makes the container; its status and its init's pidfd.
    pub fn create(&mut self) -> (Status, Vec<OwnedFd>) {
        let request = self.request();
        match self.ok(Request::Create(request)) {
            (Reply::Timed { status, .. }, fds) => (status, fds),
            other => panic!("{other:?}"),
        }
    }

    /// Starts it.
    pub fn start(&mut self) {
        self.ok(Request::Start);
    }

    /// Its status.
    pub fn status(&mut self) -> (Status, Vec<OwnedFd>) {
        match self.ok(Request::Status) {
            (Reply::Status(status), fds) => (status, fds),
            other => panic!("{other:?}"),
        }
    }

    /// Its health.
    pub fn health(&mut self) -> Health {
        match self.ok(Request::Health).0 {
            Reply::Health(health) => health,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for its end.
    pub fn exited(&mut self) -> ExitRecord {
        loop {
            if let EventKind::Exited(record) = self.event() {
                return record;
            }
        }
    }

    /// Waits for a kill for memory that it survives.
    pub fn out_of_memory(&mut self) {
        assert_eq!(self.event(), EventKind::OutOfMemory);
    }

    /// A call that is to succeed.
    pub fn ok(&mut self, request: Request) -> (Reply, Vec<OwnedFd>) {
        let (result, fds) = self.call(request);
        (result.unwrap(), fds)
    }

    /// A call.
    pub fn call(&mut self, request: Request) -> (Result<Reply, Failure>, Vec<OwnedFd>) {
        self.calls += 1;
        let id = self.calls;
        packet::send(self.daemon.as_ref().unwrap(), &Call { id, request }, &[]).unwrap();
        loop {
            match self.next() {
                (Message::Event(event), _) => self.events.push(event.kind),
                (Message::Answer(Answer { id: of, result }), fds) => {
                    assert_eq!(of, id);
                    return (result, fds);
                }
            }
        }
    }

    /// The daemon is gone.
    pub fn hang_up(&mut self) {
        self.daemon = None;
        self.events.clear();
    }

    /// A daemon finds the shim by its socket.
    pub fn connect(&mut self) {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let address = SocketAddrUnix::new(self.path("s")).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        self.daemon = Some(socket);
        self.hello();
    }

    /// The lines of the log, without their times.
    pub fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("logs/0.log")).unwrap();
        text.lines().map(|line| line[31..].to_owned()).collect()
    }

    /// Whether there is an exit record.
    pub fn has_record(&self) -> bool {
        self.path("exit.json").exists()
    }

    /// The exit record.
    pub fn record(&self) -> ExitRecord {
        serde_json::from_slice(&std::fs::read(self.path("exit.json")).unwrap()).unwrap()
    }

    /// A file of the shim's own `/proc/PID`.
    pub fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    /// Its children.
    pub fn children(&self) -> Vec<Pid> {
        let id = self.child.id();
        let children = self.proc(&format!("task/{id}/children"));
        let pids = children.split_whitespace();
        pids.map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
            .collect()
    }

    /// Ends the shim; nothing of it or its container may be left.
    pub fn shut(mut self) {
        self.ok(Request::Shutdown);
        assert!(self.child.wait().unwrap().success());
        assert!(!self.path("s").exists(), "the socket's file");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(self.dir.path().to_str().unwrap()),
            "{mounts}"
        );
        assert_eq!(cgroups_of(&self.id), Vec::<PathBuf>::new());
    }

    fn event(&mut self) -> EventKind {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match self.next().0 {
            Message::Event(event) => event.kind,
            other => panic!("{other:?}"),
        }
    }

    fn next(&mut self) -> (Message, Vec<OwnedFd>) {
        let socket = self.daemon.as_ref().unwrap();
        let patience = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        let ready = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "the shim does not answer");
        let got = packet::receive::<Message>(socket)
            .unwrap()
            .expect("the shim has gone");
        (got.message, got.fds)
    }

    fn hello(&mut self) {
        self.ok(Request::Hello {
            oldest: OLDEST,
            newest: NEWEST,
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Shim {
    /// A test that has failed leaves no shim and no container either.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        if self.daemon.is_none() {
            self.connect();
        }
        let call = Call {
            id: u64::MAX,
            request: Request::Shutdown,
        };
        if let Some(daemon) = &self.daemon {
            let _ = packet::send(daemon, &call, &[]);
        }
        let _ = self.child.wait();
    }
}

/// A cgroup of shims in one hierarchy, removed with the test.
pub struct Home(String);

impl Home {
    /// A new one.
    pub fn new() -> Self {
        let name = format!("/corten-test-shims-{}", std::process::id());
        std::fs::create_dir(Self::path(&name)).unwrap();
        Self(name)
    }

    /// Its path, as `--cgroup` takes it.
    pub fn name(&self) -> &str {
        &self.0
    }

    fn path(name: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        let unified = root.join("cgroup.controllers").exists();
        let hierarchy = if unified {
            root.to_owned()
        } else {
            root.join("pids")
        };
        hierarchy.join(name.trim_start_matches('/'))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(Self::path(&self.0));
    }
}

/// Waits for a process' end.
pub fn wait(pidfd: &OwnedFd) {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None).unwrap();
}

/// Whether a process lives.
pub fn is_alive(pidfd: &OwnedFd) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).unwrap() == 0
}

fn shell(script: &str) -> Bundle {
    let arguments = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Bundle {
        arguments,
        ..Bundle::default()
    }
}

fn make_bundle(dir: &Path, id: &str, bundle: &Bundle) {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    let bin = dir.join("rootfs/bin");
    std::fs::create_dir_all(&bin).unwrap();
    for name in ["proc", "dev", "sys"] {
        std::fs::create_dir(dir.join("rootfs").join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in ["sh", "sleep", "dd", "stty", "echo", "cat"] {
        std::fs::hard_link(bin.join("busybox"), bin.join(applet)).unwrap();
    }
    let config = serde_json::json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": bundle.terminal,
            "user": {"uid": 0, "gid": 0},
            "args": bundle.arguments,
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {
                "memory": bundle.memory.map(|limit| serde_json::json!({"limit": limit})),
            },
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
        },
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

/// The directories that cgroups of this name have.
pub fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let all = hierarchies
        .chain([root.to_owned()])
        .map(|home| home.join(id));
    all.filter(|home| home.exists()).collect()
}

/// The shim, where wanted in a chroot that a mount namespace of its own has.
fn program(chroot: Option<PathBuf>) -> Command {
    let Some(place) = chroot else {
        return Command::new(SHIM);
    };
    std::fs::create_dir(&place).unwrap();
    let enter = r#"mount --rbind / "$0" && exec chroot "$0" "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", enter])
        .arg(place)
        .arg(SHIM);
    command
}
