//! Bundles of the tests' own, and containers made of them by `corten-shim run`.

#[path = "../sandbox/bare.rs"]
mod bare;
#[path = "exec.rs"]
mod exec;

pub use exec::Exec;

use corten_shim::api::{
    Answer, Call, CreateRequest, EventKind, ExecRequest, ExitRecord, Failure, Message, NEWEST,
    OLDEST, Reply, Request, Status,
};
use corten_shim::packet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The program under test: the one that was built with the tests, unless `$CORTEN_SHIM` names one.
pub fn shim() -> Command {
    let built = env!("CARGO_BIN_EXE_corten-shim").into();
    Command::new(std::env::var_os("CORTEN_SHIM").unwrap_or(built))
}

/// The longest that a test waits for anything, in seconds.
const PATIENCE: i64 = 30;

/// What Docker and containerd give by default.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A bundle, to be changed before a container is made of it.
pub struct Bundle {
    dir: TempDir,
    id: String,
    /// `config.json`.
    pub spec: Value,
    /// What is added to the path of the image's layer.
    pub detour: String,
    /// Empty layers above it.
    pub above: usize,
    /// The compiled seccomp filter.
    pub filter: Option<PathBuf>,
}

impl Bundle {
    /// A bundle whose program is a shell script.
    pub fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let name = dir
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .replace('.', "");
        let id = format!("corten-create-{name}");
        make_layer(&dir.path().join("layer"));
        for made in ["upper", "work", "rootfs", "logs"] {
            std::fs::create_dir(dir.path().join(made)).unwrap();
        }
        let spec = spec(&id, script);
        Self {
            dir,
            id,
            spec,
            detour: String::new(),
            above: 0,
            filter: None,
        }
    }

    /// A path below the bundle.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path in the image.
    pub fn image(&self, name: &str) -> PathBuf {
        self.path("layer").join(name)
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Empties the writable layer: a volatile overlay is never mounted twice.
    pub fn renew(&self) {
        for name in ["upper", "work", "logs"] {
            std::fs::remove_dir_all(self.path(name)).unwrap();
            std::fs::create_dir(self.path(name)).unwrap();
        }
        let _ = std::fs::remove_file(self.path("s"));
    }

    /// Changes one place of the spec, named by a JSON pointer; the last part may be new.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.spec.pointer_mut(parent).unwrap()[name] = value;
        self
    }

    /// Adds to a list of the spec.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        self.spec
            .pointer_mut(pointer)
            .unwrap()
            .as_array_mut()
            .unwrap()
            .push(value);
        self
    }

    /// Adds a mount.
    pub fn mount(
        &mut self,
        destination: &str,
        kind: &str,
        source: &str,
        options: &[&str],
    ) -> &mut Self {
        self.push(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        )
    }

    /// Writes the spec and the list of the root's mounts.
    pub fn write(&self) {
        let at = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let above = (0..self.above).map(|number| format!("above-{number}"));
        let layer = |name: String| {
            std::fs::create_dir_all(self.path(&name)).unwrap();
            format!("lowerdir+={}{}", at(&name), self.detour)
        };
        let mut options: Vec<_> = above.chain(["layer".to_owned()]).map(layer).collect();
        options.push(format!("upperdir={}", at("upper")));
        options.push(format!("workdir={}", at("work")));
        options.push("volatile".to_owned());
        let rootfs = json!([{"fs_type": "overlay", "source": "overlay", "options": options}]);
        if self.spec["root"]["path"] == "rootfs" {
            std::fs::write(self.path("rootfs.json"), rootfs.to_string()).unwrap();
        }
        std::fs::write(self.path("config.json"), self.spec.to_string()).unwrap();
    }

    /// Makes the image the root itself, without an overlay: as any runtime takes it.
    pub fn plain(&mut self) -> &mut Self {
        self.set("/root/path", json!("layer"))
    }

    /// The bundle's directory.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the container up to the wait.
    pub fn create(&self) -> Result<Container<'_>, Failure> {
        self.write();
        Container::create(self)
    }

    /// Makes, starts and waits for the container: what it printed, and how it ended.
    pub fn run(&self) -> (String, ExitRecord) {
        let mut container = self.create().unwrap();
        container.start().unwrap();
        let record = container.exited();
        container.shut();
        (self.output(), record)
    }

    /// What the container printed, from its log.
    pub fn output(&self) -> String {
        let log = std::fs::read_to_string(self.path("logs/0.log")).unwrap_or_default();
        let part = |line: &str| {
            let mut words = line.splitn(4, ' ').skip(2);
            let (tag, text) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            format!("{text}{}", if tag == "F" { "\n" } else { "" })
        };
        log.lines().map(part).collect()
    }
}

fn make_layer(layer: &Path) {
    for directory in [
        "bin",
        "etc",
        "tmp",
        "proc",
        "sys",
        "dev",
        "home/user",
        "root",
    ] {
        std::fs::create_dir_all(layer.join(directory)).unwrap();
    }
    let busybox = layer.join("bin/busybox");
    std::fs::copy("/bin/busybox", &busybox).expect("busybox-static is installed");
    for applet in [
        "sh", "ls", "cat", "id", "sleep", "mkdir", "mknod", "mount", "umount", "touch", "stat",
        "grep", "readlink", "dd", "test", "true", "tty", "stty", "setsid", "head", "sort", "sed",
        "hostname", "env", "pwd", "ps", "kill", "nproc", "dmesg", "rm", "wc", "find", "seq", "cut",
        "uniq",
    ] {
        std::fs::hard_link(&busybox, layer.join("bin").join(applet)).unwrap();
    }
    std::fs::set_permissions(layer.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nother:x:33:33::/:/bin/sh\n").unwrap();
    std::fs::write(
        layer.join("etc/group"),
        "root:x:0:\nextra:x:50000:user\nweb:x:1004:\n",
    )
    .unwrap();
}

fn spec(id: &str, script: &str) -> Value {
    let default = ["nosuid", "noexec", "nodev"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "noNewPrivileges": false,
        },
        "root": {"path": "rootfs", "readonly": false},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": default},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": default},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "annotations": {},
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}],
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "devices": [],
            "maskedPaths": [],
            "readonlyPaths": [],
        },
    })
}

/// A container, and the daemon's side of its shim.
pub struct Container<'a> {
    bundle: &'a Bundle,
    shim: Child,
    socket: Option<OwnedFd>,
    calls: u64,
    events: Vec<EventKind>,
    /// What Create answered.
    pub status: Status,
    /// Names its init.
    pub pidfd: OwnedFd,
}

impl<'a> Container<'a> {
    fn create(bundle: &'a Bundle) -> Result<Self, Failure> {
        let (ours, theirs) = pair();
        let socket = bundle.path("s");
        let begun_from = bare::make(shim().get_program().as_ref());
        let shim = shim()
            .args(["run", "--id", &bundle.id, "--socket"])
            .arg(socket)
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let nobody = Status {
            state: corten_shim::api::State::Empty,
            pid: 0,
            start_time: 0,
            started_at: 0,
            user: None,
            exit: None,
        };
        let none = ours.try_clone().unwrap();
        let mut made = Self {
            bundle,
            shim,
            socket: Some(ours),
            calls: 0,
            events: Vec::new(),
            status: nobody,
            pidfd: none,
        };
        made.call(Request::Hello {
            oldest: OLDEST,
            newest: NEWEST,
        })
        .0
        .unwrap();
        let request = CreateRequest {
            id: bundle.id.clone(),
            bundle: bundle.dir.path().to_owned(),
            log_path: Some(bundle.path("logs/0.log")),
            stdin: false,
            stdin_once: false,
            seccomp_filter: bundle.filter.clone(),
            exit_record: bundle.path("exit.json"),
            bare: Some(bare::path(&begun_from)),
        };
        match made.call(Request::Create(request)) {
            (Ok(Reply::Timed { status, .. }), mut fds) => {
                made.status = status;
                made.pidfd = fds.remove(0);
                Ok(made)
            }
            (Err(failure), _) => {
                made.shut();
                Err(failure)
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Executes the program.
    pub fn start(&mut self) -> Result<(), Failure> {
        self.call(Request::Start).0.map(|_| ())
    }

    /// Makes a call.
    pub fn call(&mut self, request: Request) -> (Result<Reply, Failure>, Vec<OwnedFd>) {
        self.calls += 1;
        let id = self.calls;
        packet::send(self.socket.as_ref().unwrap(), &Call { id, request }, &[]).unwrap();
        loop {
            match self.next() {
                (
                    Message::Answer(Answer {
                        id: answered,
                        result,
                    }),
                    fds,
                ) if answered == id => return (result, fds),
                (Message::Event(event), _) => self.events.push(event.kind),
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    fn next(&self) -> (Message, Vec<OwnedFd>) {
        let socket = self.socket.as_ref().unwrap();
        wait(socket);
        let received = packet::receive::<Message>(socket)
            .unwrap()
            .expect("the shim lives");
        (received.message, received.fds)
    }

    /// Waits for its end.
    pub fn exited(&mut self) -> ExitRecord {
        loop {
            let event = match self.events.pop() {
                Some(event) => event,
                None => match self.next().0 {
                    Message::Event(event) => event.kind,
                    other => panic!("{other:?}"),
                },
            };
            if let EventKind::Exited(record) = event {
                return record;
            }
        }
    }

    /// Ends the shim, and whatever is left of the container.
    pub fn shut(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if self.socket.is_some() {
            let _ = self.call(Request::Shutdown);
            self.socket = None;
            self.shim.wait().unwrap();
        }
    }

    /// Starts a process inside; where it differs from the container's own says `more`.
    pub fn exec(&self, args: &[&str], more: &Value) -> Exec {
        self.exec_request(args, more, |_| ())
    }

    /// As [`Container::exec`], with a request of the test's own.
    pub fn exec_request(
        &self,
        args: &[&str],
        more: &Value,
        change: impl FnOnce(&mut ExecRequest),
    ) -> Exec {
        let mut process = self.bundle.spec["process"].clone();
        process["args"] = json!(args);
        for (name, value) in more.as_object().into_iter().flatten() {
            process[name] = value.clone();
        }
        let mut request = ExecRequest {
            pid: self.status.pid,
            bundle: self.bundle.dir.path().to_owned(),
            process: process.to_string(),
            seccomp_filter: self.bundle.filter.clone(),
            stdin: false,
            timeout_ms: 0,
        };
        change(&mut request);
        Exec::start(&request, &self.pidfd)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        } else if self.socket.take().is_some() {
            // A test that fails takes its container away as well as it can.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
            let _ = self.shim.kill();
            let _ = self.shim.wait();
            if let Ok(cgroup) = corten_shim::cgroup::Cgroup::find(&format!("/{}", self.bundle.id)) {
                let _ = cgroup.kill_all();
                let _ = cgroup.remove();
            }
        }
    }
}

/// A pair of sockets for packets.
pub fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

/// Waits until a descriptor can be read.
pub fn wait(fd: &OwnedFd) {
    let patience = Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&patience))).unwrap();
    assert!(ready > 0, "nothing came for {PATIENCE} s");
}

/// Waits until a condition holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(
            begin.elapsed().as_secs() < PATIENCE.unsigned_abs(),
            "{what}: not for {PATIENCE} s"
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The directories of a cgroup that exist.
pub fn cgroups(id: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let mut found: Vec<_> = hierarchies.map(|path| path.join(id)).collect();
    found.push(Path::new("/sys/fs/cgroup").join(id));
    found.retain(|path| path.is_dir());
    found
}
