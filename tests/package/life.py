"""A package's life on a node with pods: installed, upgraded, removed, installed again, purged, while containers run.

Where there is no systemd, `runtime` starts and stops the daemon as a person would (`node.py`); the VM has (`vm/inside.py`). The cases run in the
order of their names.
"""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import leftovers
from pod import Pod
from wait import until

LASTING, PASSING = pathlib.Path("/var/lib/corten"), pathlib.Path("/run/corten")
CONFLIST = pathlib.Path("/etc/cni/net.d/10-corten.conflist")
EXAMPLE = pathlib.Path("/usr/share/corten/10-corten.conflist")
PATIENCE = 60
# An image's own words that say a number every 50 ms, for as long as it runs.
COUNT = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; usleep 50000; done"]
#: NamespaceMode of the CRI.
POD, NODE = 0, 2
# Of each way that a container can hang together with its node: its PID namespace, and who else is in it.
PODS = {
    "plain": {"port_mappings": [{"protocol": 0, "container_port": 80, "host_port": 17998}]},
    "shared": {"linux": {"security_context": {"namespace_options": {"pid": POD}}}},
    "nodes": {"linux": {"security_context": {"namespace_options": {"network": NODE, "pid": NODE, "ipc": NODE}}}},
}
# What systemd has of its own at one time and not at another.
SYSTEMDS = re.compile(r"^cgroup /sys/fs/cgroup/system\.slice/(?!corten)|^process (systemd|\(sd)|^mount /run/(credentials|systemd)")
# The reference plugin's own chains, which other runtimes' pods would use, too.
KEPT_BY_PORTMAP = re.compile(r"-(A|N) (PREROUTING|OUTPUT|POSTROUTING|CNI-HOSTPORT-\w+) .*CNI-HOSTPORT|-A CNI-HOSTPORT-")


def dpkg(*words) -> str:
    done = subprocess.run(["dpkg", *map(str, words)], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="", flush=True)
    if done.returncode != 0:
        raise AssertionError(f"dpkg {words}: {done.stderr.strip()}")
    return done.stdout


def package(folder: str) -> pathlib.Path:
    (path,) = pathlib.Path(os.environ["CORTEN_PACKAGES"], folder).glob("*.deb")
    return path


class Life(unittest.TestCase):
    """One set of pods through all of it. `runtime` has `start_after_install` and `stop_before_removal`, for a node
    where systemd does neither."""

    runtime = None
    before: dict
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(dir=os.environ["CORTEN_NODE"]))
        cls.runtime.crictl("pull", leftovers.IMAGE)
        cls.containers, cls.inits = {}, {}
        for name, config in PODS.items():
            pod = Pod(cls.runtime, cls.folder / name, name, **config)
            linux = {key: value for key, value in config.get("linux", {}).items()}
            container = pod.make("c", image={"image": leftovers.IMAGE}, command=COUNT, linux=linux)
            cls.runtime.crictl("start", container)
            cls.containers[name] = container
        cls.inits = {name: cls.init(name) for name in PODS}
        assert all(cls.inits.values()), cls.inits

    @classmethod
    def init(cls, name: str) -> tuple[int, str]:
        """The pid of a container's init and when it was started, as Corten says and the kernel shows."""
        pid = int(cls.runtime.inspect(cls.containers[name])["info"]["pid"])
        return pid, started(pid)

    def assert_undisturbed(self):
        """Corten answers, and says of each container what the kernel shows: the process that has always been there."""
        until(self.runtime.ready, PATIENCE, "Corten is ready")
        self.assertEqual({name: self.init(name) for name in PODS}, self.inits)
        for name, container in self.containers.items():
            self.assertEqual(self.runtime.crictl("exec", "-s", container, "echo", "inside").strip(), "inside")
            self.assert_speaks(name)

    def assert_speaks(self, name: str):
        log = self.folder / name / "c.log"
        length = log.stat().st_size
        until(lambda: log.stat().st_size > length, PATIENCE, f"the log of {name} goes on")

    def test_1_an_installation_is_enabled_and_starts_its_own_shim(self):
        self.assertTrue(pathlib.Path("/etc/systemd/system/multi-user.target.wants/corten.service").is_symlink())
        words = [path.read_bytes().split(b"\0")[0] for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        shims = [word for word in words if word.endswith(b"/corten-shim")]
        self.assertEqual(set(shims), {b"/usr/libexec/corten/corten-shim"})

    def test_2_an_upgrade_keeps_containers_running(self):
        daemon = self.runtime.service.pid
        dpkg("--install", package("two"))
        self.runtime.start_after_install()
        until(lambda: self.runtime.service.pid not in (0, daemon), PATIENCE, "another daemon")
        self.assert_undisturbed()

    def test_3_a_removal_keeps_containers_running_and_says_how_to_end_them(self):
        self.runtime.stop_before_removal()
        said = dpkg("--remove", "corten")
        self.assertIn(f"{len(PODS)} pods stay", said)
        self.assertIn("purge", said)
        self.assertFalse(pathlib.Path("/usr/bin/corten").exists())
        self.assertTrue(pathlib.Path("/etc/corten/corten.toml").exists())
        self.assertEqual({name: (pid, started(pid)) for name, (pid, _) in self.inits.items()}, self.inits)
        for name in PODS:
            self.assert_speaks(name)

    def test_4_another_installation_finds_them_again(self):
        dpkg("--install", package("two"))
        self.runtime.start_after_install()
        self.assert_undisturbed()

    def test_5_a_purge_stops_before_what_is_mounted_and_can_be_repeated(self):
        """A disk of the administrator's that is in use cannot be unmounted, and nothing is deleted through it."""
        kept = self.folder / "disk"
        (kept / "inner").mkdir(parents=True)
        (kept / "mine").write_text("mine")
        inside = LASTING / "mine"
        inside.mkdir()
        subprocess.run(["mount", "--bind", kept, inside], check=True)
        busy = os.open(inside / "mine", os.O_RDONLY)
        self.runtime.stop_before_removal()
        try:
            with self.assertRaises(AssertionError):
                dpkg("--purge", "corten")
            self.assertTrue((LASTING / "containers").is_dir())
        finally:
            os.close(busy)
        dpkg("--purge", "corten")
        self.assertEqual((kept / "mine").read_text(), "mine")
        self.assertTrue((kept / "inner").is_dir())

    def test_6_a_purge_leaves_nothing(self):
        self.assertEqual({name: started(pid) for name, (pid, _) in self.inits.items()}, dict.fromkeys(PODS))
        left = [one for one in leftovers.left_over(self.before) if not (KEPT_BY_PORTMAP.search(one) or SYSTEMDS.match(one))]
        self.assertEqual(left, [])
        for place in (LASTING, PASSING, pathlib.Path("/etc/corten")):
            # A mount point stays, empty.
            self.assertEqual(list(place.iterdir()) if place.exists() else [], [], place)
        self.assertFalse(CONFLIST.exists())
        self.assertNotIn("corten", subprocess.run(["dpkg-query", "--show"], capture_output=True, text=True, check=True).stdout)
        for place in ("/etc/systemd", "/var/lib/systemd"):
            self.assertEqual([str(path) for path in pathlib.Path(place).rglob("corten.service*")], [])


def started(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks; None where it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return None if fields[0] == "Z" else fields[19]
