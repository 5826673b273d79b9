"""What a node with systemd and cgroup v2 alone can show, beside what the suite asks."""

import json
import os
import pathlib
import tempfile
import unittest

import invariants
import leftovers
from installed import InstalledCorten, journal
from wait import until

SERVED = 60
ROOT = pathlib.Path("/sys/fs/cgroup")
UNIT_CGROUP = "/system.slice/corten.service"
# Says a number every 50 ms, for as long as it runs.
COUNT = "trap 'exit 0' TERM; n=0; while :; do n=$((n+1)); echo line $n; usleep 50000; done"


class Pod:
    """A pod with one container that counts, in a cgroup of the tests' own as a kubelet would name it."""

    def __init__(self, runtime: InstalledCorten, name: str, linux: dict) -> None:
        self.runtime = runtime
        self.parent = f"/lane/{name}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=name, dir=os.environ["CORTEN_NODE"]))
        privileged = linux.get("security_context", {}).get("privileged", False)
        pod = self.write("pod.json", {
            "metadata": {"name": name, "namespace": "tests", "uid": name, "attempt": 1},
            "hostname": name, "log_directory": str(self.folder),
            "linux": {"cgroup_parent": self.parent, "security_context": {"privileged": privileged}},
        })
        # A PID namespace of its own: the process 1 that it sees is its own.
        linux.setdefault("security_context", {})["namespace_options"] = {"pid": 1}
        container = self.write("container.json", {
            "metadata": {"name": "c"}, "image": {"image": leftovers.IMAGE}, "command": ["sh", "-c", COUNT],
            "log_path": "c.log", "linux": linux,
        })
        self.sandbox = runtime.crictl("runp", pod).strip()
        self.container = runtime.crictl("create", self.sandbox, container, pod).strip()
        runtime.crictl("start", self.container)

    @property
    def cgroup(self) -> pathlib.Path:
        return ROOT / self.parent.strip("/") / self.container

    def limit(self, file: str) -> str:
        return (self.cgroup / file).read_text().strip()

    def inspect(self) -> dict:
        return json.loads(self.runtime.crictl("inspect", self.container))

    def processes(self) -> list[int]:
        return [int(line) for line in (self.cgroup / "cgroup.procs").read_text().split()]

    def inside(self, *words: str) -> str:
        return self.runtime.crictl("exec", "-s", self.container, *words).strip()

    def said(self) -> list[int]:
        """The numbers of whole lines of its log."""
        log = (self.folder / "c.log").read_text().splitlines(keepends=True)
        return [int(line.split(" ")[4]) for line in log if line.endswith("\n")]

    def remove(self) -> None:
        self.runtime.crictl("stopp", self.sandbox)
        self.runtime.crictl("rmp", self.sandbox)
        for folder in (ROOT / self.parent.strip("/"), ROOT / "lane"):
            folder.rmdir()

    def write(self, name: str, document: dict) -> str:
        path = self.folder / name
        path.write_text(json.dumps(document))
        return str(path)


def cgroup_of(pid: int) -> str:
    """The v2 cgroup of a process."""
    return pathlib.Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def parent_of(pid: int) -> int:
    """Behind the command's name in brackets come the state and the parent."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def shims() -> list[int]:
    """Those of containers, without what is kept in reserve and without those who write their logs."""
    return sorted(pid for pid, _ in invariants.shims())


class Unified(unittest.TestCase):
    """A container with limits, on cgroup v2."""

    runtime: InstalledCorten

    @classmethod
    def setUpClass(cls):
        cls.pod = Pod(cls.runtime, "limits", {
            "resources": {
                "cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512, "oom_score_adj": 500,
                "memory_limit_in_bytes": 64 << 20, "memory_swap_limit_in_bytes": 64 << 20,
                "unified": {"memory.high": str(60 << 20)},
            },
        })
        cls.addClassCleanup(cls.pod.remove)

    def test_limits_are_in_its_cgroup(self):
        wanted = {
            "cpu.max": "50000 100000", "memory.max": str(64 << 20), "memory.swap.max": "0",
            "memory.high": str(60 << 20),
        }
        self.assertEqual({file: self.pod.limit(file) for file in wanted}, wanted)
        self.assertIn(int(self.pod.limit("cpu.weight")), range(20, 100))

    def test_z_an_update_is_in_its_cgroup(self):
        self.runtime.crictl("update", "--cpu-quota", "20000", "--cpu-period", "50000", self.pod.container)
        self.assertEqual(self.pod.limit("cpu.max"), "20000 50000")
        resources = self.pod.inspect()["status"]["resources"]["linux"]
        self.assertEqual((resources["cpuQuota"], resources["cpuPeriod"]), ("20000", "50000"))

    def test_its_cgroup_is_its_root_and_read_only(self):
        self.assertEqual(self.pod.inside("cat", "/proc/1/cgroup"), "0::/")
        self.assertIn("cgroup.procs", self.pod.inside("ls", "/sys/fs/cgroup").split())
        refused = self.pod.inside("sh", "-c", "mkdir /sys/fs/cgroup/mine 2>&1 || true")
        self.assertIn("Read-only file system", refused)

    def test_devices_are_refused_by_the_program(self):
        refused = self.pod.inside("sh", "-c", "mknod /dev/root b 259 0 && head -c 1 /dev/root 2>&1 || true")
        self.assertIn("Operation not permitted", refused)
        self.assertEqual(self.pod.inside("sh", "-c", "mknod /dev/nought c 1 5 && head -c 4 /dev/nought | wc -c"), "4")

    def test_stats_are_read(self):
        (stats,) = json.loads(self.runtime.crictl("stats", "-o", "json", self.pod.container))["stats"]
        self.assertGreater(int(stats["cpu"]["usageCoreNanoSeconds"]["value"]), 0)
        self.assertGreater(int(stats["memory"]["workingSetBytes"]["value"]), 0)

    def test_no_process_of_cortens_is_among_its_own(self):
        names = {name_of(pid) for pid in self.pod.processes()}
        self.assertLessEqual(names - {None}, {"sh", "usleep"})
        self.assertIn("sh", names)


def name_of(pid: int) -> str | None:
    """None where the process has ended since it was listed."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


class Privileged(unittest.TestCase):
    """A privileged container sees the node's cgroups."""

    runtime: InstalledCorten

    def test_it_sees_and_may_change_the_nodes_cgroups(self):
        pod = Pod(self.runtime, "privileged", {"security_context": {"privileged": True}})
        self.addCleanup(pod.remove)
        self.assertEqual(pod.inside("cat", "/proc/1/cgroup"), f"0::{pod.parent}/{pod.container}")
        pod.inside("mkdir", "/sys/fs/cgroup/lane-made")
        self.assertTrue((ROOT / "lane-made").is_dir())
        (ROOT / "lane-made").rmdir()


class AppArmor(unittest.TestCase):
    """A container that names no profile and may do much: only Corten's profile holds it back."""

    runtime: InstalledCorten
    PROFILE = "corten-default"

    def pod(self, name: str) -> Pod:
        pod = Pod(self.runtime, name, {"security_context": {"capabilities": {"add_capabilities": ["SYS_ADMIN"]}}})
        self.addCleanup(pod.remove)
        return pod

    def test_it_and_what_joins_it_are_confined(self):
        pod = self.pod("confined")
        for process in ("1", "self"):
            self.assertEqual(pod.inside("cat", f"/proc/{process}/attr/current"), f"{self.PROFILE} (enforce)")
        refused = pod.inside("sh", "-c", "mkdir /here && mount -t tmpfs none /here 2>&1 || true")
        self.assertIn("ermission denied", refused)
        self.assertNotIn("/here", pod.inside("cat", "/proc/mounts"))

    def test_a_profile_that_was_unloaded_is_loaded_again(self):
        pathlib.Path("/sys/kernel/security/apparmor/.remove").write_text(self.PROFILE)
        self.assertNotIn(self.PROFILE, pathlib.Path("/sys/kernel/security/apparmor/profiles").read_text())
        self.assertEqual(self.pod("again").inside("cat", "/proc/1/attr/current"), f"{self.PROFILE} (enforce)")


class Restarts(unittest.TestCase):
    """One pod, while systemd ends and starts the daemon in each way."""

    runtime: InstalledCorten

    @classmethod
    def setUpClass(cls):
        cls.pod = Pod(cls.runtime, "restarts", {})
        cls.addClassCleanup(cls.pod.remove)
        until(cls.pod.said, SERVED, "the container speaks")

    def setUp(self):
        self.before = self.pod.inspect()["info"]["pid"], shims(), self.runtime.service.pid

    def assert_undisturbed(self):
        """A new daemon, the same shim and process, a log without a gap that goes on, and a way in."""
        until(self.is_new, SERVED, "a new daemon is ready")
        pid, shims_before, _ = self.before
        self.assertEqual((self.pod.inspect()["info"]["pid"], shims()), (pid, shims_before))
        spoken = len(self.pod.said())
        until(lambda: len(self.pod.said()) > spoken, SERVED, "the log goes on")
        said = self.pod.said()
        self.assertEqual(said, list(range(1, len(said) + 1)))
        self.assertEqual(self.pod.inside("echo", "inside"), "inside")

    def is_new(self) -> bool:
        return self.runtime.service.pid not in (0, self.before[2]) and self.runtime.ready()

    def test_each_has_its_leaf_of_the_unit(self):
        self.assertEqual(cgroup_of(self.runtime.service.pid), f"{UNIT_CGROUP}/daemon")
        self.assertEqual({cgroup_of(pid) for pid in shims()}, {f"{UNIT_CGROUP}/shims"})
        self.assertTrue(shims())

    def test_who_a_shim_was_born_from_has_gone(self):
        """A shim's parent is then PID 1."""
        self.assertEqual({parent_of(pid) for pid in shims()}, {1})

    def test_a_daemon_that_was_killed_is_started_again(self):
        self.runtime.service.kill()
        self.assert_undisturbed()

    def test_a_restart_disturbs_no_container(self):
        self.runtime.service.restart()
        self.assert_undisturbed()

    def test_a_stop_and_a_start_disturb_no_container(self):
        self.runtime.service.stop()
        spoken = len(self.pod.said())
        until(lambda: len(self.pod.said()) > spoken, SERVED, "the log goes on without a daemon")
        self.runtime.service.start()
        self.assert_undisturbed()


class Facts(unittest.TestCase):
    """What the daemon says of this node."""

    runtime: InstalledCorten

    def test_the_nodes_facts_are_told(self):
        told = self.runtime.status()
        self.assertEqual(told["cgroup"], {"driver": "cgroupfs", "version": "v2"})
        kernel = os.uname().release
        yes = ("apparmor", "apparmor_profile", "seccomp", "swap_accounting", "idmapped_mounts", "recursive_read_only")
        wanted = {"kernel": kernel, "selinux": "no", **dict.fromkeys(yes, "yes")}
        self.assertEqual({fact: told["host"].get(fact) for fact in wanted}, wanted)
        self.assertLessEqual({"cpu", "cpuset", "io", "memory", "pids"}, set(told["host"]["controllers"].split()))

    def test_the_service_is_ready_without_a_complaint(self):
        self.assertEqual(self.runtime.service.property("Result"), "success")
        self.assertEqual(self.runtime.service.property("NRestarts"), "0")
        self.assertEqual(journal("--unit", "corten.service", "--priority=warning", "--output=cat"), "")


CASES = (Facts, Unified, Privileged, AppArmor, Restarts)
