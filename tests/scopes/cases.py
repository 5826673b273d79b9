"""Pods under the systemd cgroup driver: where they are, what lasts, and that nothing is left. On cgroup v1 and v2.

These put a drop-in beside the configuration and start the daemon again, with a
pod of the other driver running, so that a node's change of its driver is played on the way, both ways.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time
import unittest

import invariants
import leftovers
from installed import InstalledCorten, systemctl
from wait import until

SERVED = 120
ROOT = pathlib.Path("/sys/fs/cgroup")
DROP_IN = pathlib.Path("/etc/corten/corten.toml.d/50-driver.toml")
SLICE = "lane-besteffort-pod0a_1b.slice"
SLICE_PATH = f"lane.slice/lane-besteffort.slice/{SLICE}"
UNIFIED = (ROOT / "cgroup.controllers").exists()
HIERARCHIES = [ROOT] if UNIFIED else sorted(path for path in ROOT.iterdir() if path.is_mount() and not path.is_symlink())
# What a limit of the CPU's time and one of the memory are called, and where.
CPU, MEMORY = (("", "cpu.max"), ("", "memory.max")) if UNIFIED else (("cpu", "cpu.cfs_quota_us"), ("memory", "memory.limit_in_bytes"))
FAILPOINTS = pathlib.Path(os.environ["CORTEN_NODE"], "failpoints")
COUNT = "trap 'exit 0' TERM; n=0; while :; do n=$((n+1)); echo line $n; usleep 50000; done"
KILLS = 12


def set_driver(runtime: InstalledCorten, driver: str) -> None:
    """Starts the daemon again under this driver."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f'[cgroup]\ndriver = "{driver}"\n')
    runtime.service.restart()
    until(runtime.ready, SERVED, "the daemon is ready")


def program() -> pathlib.Path:
    """The daemon's, once it is installed."""
    found = shutil.which("corten")
    assert found, "corten is not in PATH"
    return pathlib.Path(found)


class Pod:
    """A pod without an address of its own, which asks less of the emulated node."""

    def __init__(self, runtime: InstalledCorten, name: str, parent: str, **security) -> None:
        self.runtime, self.name = runtime, name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=name, dir=os.environ["CORTEN_NODE"]))
        self.config = self.write("pod.json", {
            "metadata": {"name": name, "namespace": "tests", "uid": name, "attempt": 1},
            "hostname": name, "log_directory": str(self.folder),
            "linux": {"cgroup_parent": parent, "security_context": security},
        })
        self.sandbox = runtime.crictl("runp", self.config).strip()

    @property
    def unit(self) -> str:
        return f"corten-{self.sandbox}.scope"

    def container(self, name: str, linux: dict | None = None, command: str = COUNT) -> str:
        config = self.write(f"{name}.json", {
            "metadata": {"name": name}, "image": {"image": leftovers.IMAGE}, "command": ["sh", "-c", command],
            "log_path": f"{name}.log", "linux": linux or {},
        })
        container = self.runtime.crictl("create", self.sandbox, config, self.config).strip()
        self.runtime.crictl("start", container)
        return container

    def inspect(self) -> dict:
        return json.loads(self.runtime.crictl("inspectp", self.sandbox))

    def remove(self) -> None:
        self.runtime.crictl("stopp", self.sandbox)
        self.runtime.crictl("rmp", self.sandbox)

    def write(self, name: str, document: dict) -> str:
        path = self.folder / name
        path.write_text(json.dumps(document))
        return str(path)


def state(runtime: InstalledCorten, container: str) -> dict:
    return json.loads(runtime.crictl("inspect", container))


def said_by(cgroup: str, file: tuple[str, str]) -> str:
    """The first word of a cgroup's file, given its controller and its name."""
    return (ROOT / file[0] / cgroup / file[1]).read_text().split()[0]


def processes(cgroup: str) -> list[int]:
    """Those of the cgroup, which are the same in every hierarchy."""
    found = {tuple((home / cgroup / "cgroup.procs").read_text().split()) for home in HIERARCHIES}
    assert len({frozenset(one) for one in found}) == 1, f"{cgroup} differs between hierarchies: {found}"
    return sorted(int(pid) for pid in found.pop())


def property_of(unit: str, name: str) -> str:
    return systemctl("show", "--value", "--property", name, unit).strip()


def scopes() -> list[str]:
    """The scopes of pods, those that failed too."""
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", "--type=scope", "corten-*")
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def cgroups_of_pods() -> list[str]:
    return [str(path) for path in ROOT.rglob("corten-*.scope")] + [str(path) for path in ROOT.rglob("holders/*") if path.is_dir()]


def drop_slice(name: str) -> None:
    """As a kubelet does with those that it made: systemd keeps a slice that is empty."""
    systemctl("stop", name)


class Scopes(unittest.TestCase):
    """A pod of the systemd driver, with a limited container and a plain one."""

    runtime: InstalledCorten

    @classmethod
    def setUpClass(cls):
        set_driver(cls.runtime, "cgroupfs")
        cls.older = Pod(cls.runtime, "older", "/lane-older")
        cls.older_container = cls.older.container("c")
        set_driver(cls.runtime, "systemd")
        cls.addClassCleanup(set_driver, cls.runtime, "cgroupfs")
        # As the kubelet names it; others here have the name alone.
        cls.pod = Pod(cls.runtime, "scoped", f"/{SLICE_PATH}")
        cls.scope = f"{SLICE_PATH}/{cls.pod.unit}"
        cls.limited = cls.pod.container("limited", {"resources": {
            "cpu_period": 100000, "cpu_quota": 50000, "memory_limit_in_bytes": 64 << 20, "hugepage_limits": [],
        }})
        cls.plain = cls.pod.container("plain")

    def limits(self) -> list[str]:
        return [said_by(f"{self.scope}/{self.limited}", file) for file in (CPU, MEMORY)]

    LIMITS = ["50000", str(64 << 20)]

    def test_a_the_driver_is_told_to_the_kubelet(self):
        told = subprocess.check_output([program(), "status", "--output", "json"], text=True)
        self.assertEqual(json.loads(told)["cgroup"]["driver"], "systemd")
        self.assertIn("SYSTEMD", self.runtime.crictl("runtime-config"))

    def test_b_leaves_are_where_they_should_be(self):
        holder = self.pod.inspect()["info"]["pid"]
        self.assertEqual(processes(self.scope), [], "no process is in the scope itself")
        self.assertEqual(processes(f"{self.scope}/holder"), [holder])
        for home in HIERARCHIES:
            leaves = {path.name for path in (home / self.scope).iterdir() if path.is_dir()}
            self.assertEqual(leaves, {"holder", self.limited, self.plain}, home)
        for container in (self.limited, self.plain):
            self.assertIn(state(self.runtime, container)["info"]["pid"], processes(f"{self.scope}/{container}"))
        if UNIFIED:
            self.assertLessEqual({"cpu", "memory", "pids"}, set((ROOT / self.scope / "cgroup.subtree_control").read_text().split()))

    def test_c_systemd_knows_the_scope(self):
        wanted = {"ActiveState": "active", "Delegate": "yes", "Slice": SLICE, "TasksMax": "infinity",
                  "ControlGroup": f"/{SLICE_PATH}/{self.pod.unit}", "Transient": "yes", "CollectMode": "inactive-or-failed"}
        self.assertEqual({name: property_of(self.pod.unit, name) for name in wanted}, wanted)
        shown = subprocess.run(["systemd-cgls", "--no-pager", "--full", f"/{SLICE_PATH}"], capture_output=True, text=True, check=True)
        for name in (self.pod.unit, "holder", self.limited):
            self.assertIn(name, shown.stdout)

    def test_d_no_process_of_cortens_is_in_a_pods_cgroup_but_the_holder(self):
        files = [path for home in HIERARCHIES for path in (home / self.scope).rglob("cgroup.procs")]
        inside = {int(pid) for path in files for pid in path.read_text().split()}
        ours = {pid for pid, verb, _ in invariants.shim_processes() if verb != "pause"}
        self.assertEqual(inside & ours, set())

    def test_e_limits_outlive_a_reload_and_another_scope(self):
        self.assertEqual(self.limits(), self.LIMITS)
        systemctl("daemon-reload")
        beside = Pod(self.runtime, "beside", SLICE)
        self.addCleanup(beside.remove)
        self.assertEqual(self.limits(), self.LIMITS)

    def test_f_limits_of_a_pod_of_cortens_own_outlive_a_reload(self):
        pod = Pod(self.runtime, "own", "")
        self.addCleanup(pod.remove)
        pod.container("c")
        self.assertEqual(pod.inspect()["info"]["scope"], f"/system.slice/{pod.unit}")
        file = ROOT / MEMORY[0] / "system.slice" / pod.unit / "pod" / MEMORY[1]
        file.write_text(str(256 << 20))
        systemctl("daemon-reload")
        beside = Pod(self.runtime, "own-beside", "")
        self.addCleanup(beside.remove)
        self.assertEqual(file.read_text().strip(), str(256 << 20))

    def test_g_systemd_executed_anew_is_found_again(self):
        before = min(processes(f"{self.scope}/{self.plain}"))
        systemctl("daemon-reexec")
        pod = Pod(self.runtime, "reexec", SLICE)
        pod.remove()
        self.assertEqual(property_of(self.pod.unit, "ActiveState"), "active")
        self.assertIn(before, processes(f"{self.scope}/{self.plain}"))
        self.assertEqual(self.limits(), self.LIMITS)

    def test_h_exec_update_and_stats(self):
        within = self.runtime.crictl("exec", "-s", self.plain, "cat", "/proc/self/cgroup").split()
        leaf = "/" if UNIFIED else f"/{self.scope}/{self.plain}"
        # Where it can be told apart it has a leaf of its own, by which it is killed.
        elsewhere = [line for line in within if not f"{line.split(':')[2]}/".startswith(leaf)]
        self.assertEqual((len(within) > 0, elsewhere), (True, []))
        self.runtime.crictl("update", "--cpu-quota", "20000", "--cpu-period", "50000", self.limited)
        self.addCleanup(self.runtime.crictl, "update", "--cpu-quota", "50000", "--cpu-period", "100000", self.limited)
        self.assertEqual(self.limits()[0], "20000")
        (stats,) = json.loads(self.runtime.crictl("stats", "-o", "json", self.limited))["stats"]
        self.assertGreater(int(stats["memory"]["workingSetBytes"]["value"]), 0)
        (pod,) = json.loads(self.runtime.crictl("statsp", "-o", "json", "--id", self.pod.sandbox))["stats"]
        whole = int(pod["linux"]["memory"]["workingSetBytes"]["value"])
        self.assertGreaterEqual(whole, int(stats["memory"]["workingSetBytes"]["value"]) // 2)

    def test_i_each_kind_of_container_is_a_leaf(self):
        """Privileged; with the node's namespaces; with a shared PID namespace; a process that is killed for memory."""
        for name, security, linux in (
            ("privileged", {"privileged": True}, {"security_context": {"privileged": True}}),
            ("nodes", {"namespace_options": {"network": 2, "pid": 2, "ipc": 2}},
             {"security_context": {"namespace_options": {"network": 2, "pid": 2, "ipc": 2}}}),
            ("alone", {}, {"security_context": {"namespace_options": {"pid": 1}}}),
        ):
            with self.subTest(name):
                pod = Pod(self.runtime, name, SLICE, **security)
                container = pod.container("c", linux)
                leaf = f"{SLICE_PATH}/{pod.unit}/{container}"
                self.assertIn(state(self.runtime, container)["info"]["pid"], processes(leaf))
                pod.remove()
                self.assertNotIn(pod.unit, scopes())

    def test_j_a_kill_for_memory_ends_one_container_alone(self):
        hungry = self.pod.container("hungry", {"resources": {"memory_limit_in_bytes": 16 << 20, "memory_swap_limit_in_bytes": 16 << 20}},
                                    "exec dd if=/dev/zero of=/dev/null bs=64M count=100")
        until(lambda: state(self.runtime, hungry)["status"]["state"] == "CONTAINER_EXITED", SERVED, "it is killed")
        self.assertEqual(state(self.runtime, hungry)["status"]["reason"], "OOMKilled")
        self.runtime.crictl("rm", hungry)
        self.assertEqual(state(self.runtime, self.plain)["status"]["state"], "CONTAINER_RUNNING")
        self.assertEqual(property_of(self.pod.unit, "ActiveState"), "active")

    def test_k_a_daemon_that_is_killed_or_started_again_disturbs_nothing(self):
        plain = f"{self.scope}/{self.plain}"
        before = min(processes(plain)), self.pod.inspect()["info"]["pid"]
        for end in (self.runtime.service.kill, self.runtime.service.restart):
            pid = self.runtime.service.pid
            end()
            until(lambda pid=pid: self.runtime.service.pid not in (0, pid) and self.runtime.ready(), SERVED, "a new daemon is ready")
            self.assertEqual((min(processes(plain)), self.pod.inspect()["info"]["pid"]), before)
            self.assertEqual(self.runtime.crictl("exec", "-s", self.plain, "echo", "inside").strip(), "inside")
        holder = pathlib.Path(f"/proc/{before[1]}/cgroup").read_text()
        self.assertNotIn("corten.service", holder)

    def test_l_a_holder_that_is_killed_makes_the_pod_not_ready(self):
        pod = Pod(self.runtime, "lost", SLICE)
        self.addCleanup(pod.remove)
        os.kill(pod.inspect()["info"]["pid"], 9)
        until(lambda: pod.inspect()["status"]["state"] == "SANDBOX_NOTREADY", SERVED, "the pod is not ready")
        until(lambda: pod.unit not in scopes(), SERVED, "the scope has ended")

    def test_m_a_kubelet_of_the_other_driver_is_told(self):
        with self.assertRaises(Exception) as refused:
            Pod(self.runtime, "path", "/kubepods/podx")
        self.assertIn("cgroupDriver: systemd", str(refused.exception))
        info = json.loads(self.runtime.crictl("info"))
        (condition,) = [one for one in info["status"]["conditions"] if one["type"] == "CgroupDriverMatches"]
        self.assertEqual((condition["status"], condition["reason"]), (False, "CgroupDriverMismatch"))
        self.assertIn("cgroupDriver: systemd", condition["message"])
        Pod(self.runtime, "right", SLICE).remove()
        info = json.loads(self.runtime.crictl("info"))
        self.assertTrue(all(one["status"] for one in info["status"]["conditions"]), info["status"])

    def test_n_a_pod_of_the_other_driver_lives_on_and_ends(self):
        container = state(self.runtime, self.older_container)
        self.assertEqual(container["status"]["state"], "CONTAINER_RUNNING")
        cgroup = f"lane-older/{self.older_container}"
        self.assertIn(container["info"]["pid"], processes(cgroup))
        self.runtime.crictl("update", "--cpu-quota", "20000", "--cpu-period", "50000", self.older_container)
        self.assertEqual(said_by(cgroup, CPU), "20000")
        late = self.older.container("late")
        self.assertTrue(processes(f"lane-older/{late}"))
        self.older.remove()
        for home in HIERARCHIES:
            (home / "lane-older").rmdir()

    def test_o_kills_at_any_moment_leave_nothing(self):
        """The daemon is killed while pods come and go; what was not acknowledged is undone, what was is removed."""
        pods = scopes()
        chance = random.Random(8)
        begun = time.monotonic()
        Pod(self.runtime, "timed", SLICE, namespace_options={"network": 2}).remove()
        span = time.monotonic() - begun
        for number in range(KILLS):
            folder = tempfile.mkdtemp(dir=os.environ["CORTEN_NODE"])
            config = pathlib.Path(folder, "pod.json")
            config.write_text(json.dumps({
                "metadata": {"name": f"killed{number}", "namespace": "tests", "uid": f"killed{number}", "attempt": 1},
                "linux": {"cgroup_parent": SLICE, "security_context": {"namespace_options": {"network": 2}}},
            }))
            # Or systemd takes the daemon for one that cannot start.
            systemctl("reset-failed", "corten.service")
            pid = self.runtime.service.pid
            words = "id=$(crictl runp %s) && crictl stopp $id && crictl rmp $id" % config
            client = subprocess.Popen(["sh", "-c", words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0, span))
            self.runtime.service.kill()
            client.wait()
            until(lambda pid=pid: self.runtime.service.pid not in (0, pid) and self.runtime.ready(), SERVED, "a new daemon is ready")
            for sandbox in self.runtime.crictl("pods", "-q", "--no-trunc", "--name", f"killed{number}").split():
                self.runtime.crictl("stopp", sandbox)
                self.runtime.crictl("rmp", sandbox)
        until(lambda: sorted(scopes()) == sorted(pods), SERVED, "no scope is left")
        self.assertEqual(invariants.await_agreement(self.runtime), [])

    def test_p_a_kill_at_each_point_leaves_nothing(self):
        """Where the programs have failpoints."""
        if b"systemd_scope/held" not in program().read_bytes():
            self.skipTest("the programs have no failpoints: CORTEN_PREBUILT=FOLDER of a build with them plays this")
        points = ("run_pod_sandbox/recorded", "run_pod_sandbox/pinned", "systemd_scope/started", "systemd_scope/held",
                  "run_pod_sandbox/networked", "run_pod_sandbox/files-written", "run_pod_sandbox/ready-recorded",
                  "stop_pod_sandbox/closed", "stop_pod_sandbox/unpinned", "systemd_scope/stopped", "stop_pod_sandbox/released")
        switch_on_failpoints(self.runtime)
        self.addCleanup(switch_off_failpoints, self.runtime)
        pods = scopes()
        for point in points:
            with self.subTest(point):
                self.kill_at(point)
                until(lambda: sorted(scopes()) == sorted(pods), SERVED, f"no scope is left after {point}")
                self.assertEqual(invariants.await_agreement(self.runtime), [])

    def kill_at(self, point: str) -> None:
        switch = FAILPOINTS / point
        switch.parent.mkdir(parents=True, exist_ok=True)
        systemctl("reset-failed", "corten.service")
        pid = self.runtime.service.pid
        if point.startswith("run_pod") or point in ("systemd_scope/started", "systemd_scope/held"):
            switch.write_text("kill")
            with self.assertRaises(Exception):
                Pod(self.runtime, "point", SLICE)
        else:
            pod = Pod(self.runtime, "point", SLICE)
            switch.write_text("kill")
            with self.assertRaises(Exception):
                self.runtime.crictl("stopp", pod.sandbox)
        self.assertTrue(switch.with_suffix(".hit").exists(), f"{point} was reached")
        until(lambda: self.runtime.service.pid not in (0, pid) and self.runtime.ready(), SERVED, "a new daemon is ready")
        for sandbox in self.runtime.crictl("pods", "-q", "--no-trunc", "--name", "point").split():
            self.runtime.crictl("stopp", sandbox)
            self.runtime.crictl("rmp", sandbox)

    def test_z_nothing_is_left_of_it(self):
        self.pod.remove()
        self.assertEqual(scopes(), [])
        self.assertEqual(cgroups_of_pods(), [])
        drop_slice("lane.slice")
        for home in HIERARCHIES:
            # systemd knows of its own hierarchies alone; the others' are the kubelet's to remove.
            for slice in (SLICE_PATH, "lane.slice/lane-besteffort.slice", "lane.slice"):
                with contextlib.suppress(FileNotFoundError):
                    (home / slice).rmdir()


class Refused(unittest.TestCase):
    """Under cgroupfs, a kubelet with the systemd driver."""

    runtime: InstalledCorten

    def test_a_slice_is_refused_with_the_line_to_change(self):
        with self.assertRaises(Exception) as refused:
            Pod(self.runtime, "sliced", SLICE)
        self.assertIn("cgroupDriver: cgroupfs", str(refused.exception))


UNIT_DROP_IN = pathlib.Path("/run/systemd/system/corten.service.d/failpoints.conf")


def switch_on_failpoints(runtime: InstalledCorten) -> None:
    UNIT_DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    UNIT_DROP_IN.write_text(f"[Service]\nEnvironment=CORTEN_FAILPOINTS={FAILPOINTS}\n")
    systemctl("daemon-reload")
    runtime.service.restart()
    until(runtime.ready, SERVED, "the daemon is ready")


def switch_off_failpoints(runtime: InstalledCorten) -> None:
    UNIT_DROP_IN.unlink()
    UNIT_DROP_IN.parent.rmdir()
    systemctl("daemon-reload")
    runtime.service.restart()
    until(runtime.ready, SERVED, "the daemon is ready")


CASES = (Scopes, Refused)
