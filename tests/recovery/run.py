#!/usr/bin/env python3
"""Kills the daemon while pods run, and looks what a new one makes of them. Inside a node.

Usage: recovery/run.py [--runtime corten|containerd]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "lib"))
import leftovers  # noqa: E402
import registry  # noqa: E402
from recorder import run_cases  # noqa: E402
from runtimes import RUNTIMES, Runtime  # noqa: E402
from wait import Late, until  # noqa: E402

PODS = 20
SERVED = 30
# The scripts' sign to end.
SIGNALS = pathlib.Path(os.environ.get("CORTEN_NODE", "/nonexistent"), "signals")
# Says a number every 10 ms, for as long as it runs.
COUNT = "trap 'exit 0' TERM; n=0; while :; do n=$((n+1)); echo line $n; usleep 10000; done"
# Ends by itself when told to, with a code of its own.
END_WITH = "echo up; while [ ! -e /signals/end ]; do usleep 20000; done; touch /signals/ended-{code}; exit {code}"
CODES = (0, 3, 4, 5, 117)
KILLS_WHILE_MAKING = 12


class Pod:
    """A pod with one container, made through crictl."""

    def __init__(self, runtime: Runtime, name: str, script: str) -> None:
        self.runtime = runtime
        self.folder = SIGNALS.parent / name
        self.folder.mkdir(exist_ok=True)
        pod, container = pod_config(name, self.folder), container_config(self.folder, script)
        self.sandbox = runtime.crictl("runp", pod).strip()
        self.container = runtime.crictl("create", self.sandbox, container, pod).strip()
        runtime.crictl("start", self.container)

    def status(self) -> dict:
        return json.loads(self.runtime.crictl("inspect", self.container))["status"]

    def lines(self) -> list[str]:
        """What the container has said, out of whole lines of its log."""
        log = (self.folder / "c.log").read_text().splitlines(keepends=True)
        return [line.split(" ", 3)[3].rstrip("\n") for line in log if line.endswith("\n")]


def pod_config(name: str, folder: pathlib.Path) -> str:
    return write(folder / "pod.json", {
        "metadata": {"name": name, "namespace": "tests", "uid": name, "attempt": 1},
        "hostname": name, "log_directory": str(folder), "linux": {},
    })


def container_config(folder: pathlib.Path, script: str) -> str:
    return write(folder / "container.json", {
        "metadata": {"name": "c"}, "image": {"image": leftovers.IMAGE}, "command": ["sh", "-c", script],
        "log_path": "c.log", "linux": {"security_context": {"namespace_options": {"pid": 1}}},
        "mounts": [{"host_path": str(SIGNALS), "container_path": "/signals"}],
    })


def write(path: pathlib.Path, document: dict) -> str:
    path.write_text(json.dumps(document))
    return str(path)


class Recovery(unittest.TestCase):
    """One story: pods run, the daemon is killed, some containers end, a new daemon starts."""

    runtime: Runtime

    @classmethod
    def setUpClass(cls):
        scripts = [COUNT] * (PODS - len(CODES)) + [END_WITH.format(code=code) for code in CODES]
        cls.pods = []
        cls.addClassCleanup(cls.clear)
        for number, script in enumerate(scripts):
            cls.pods.append(Pod(cls.runtime, f"pod-{number}", script))
        cls.counting, cls.ending = cls.pods[:-len(CODES)], cls.pods[-len(CODES):]
        until(lambda: all(pod.lines() for pod in cls.pods), SERVED, "every container has said something")
        cls.runtime.service.kill()
        cls.meanwhile()
        cls.runtime.service.restart()
        cls.runtime.await_ready()

    @classmethod
    def meanwhile(cls):
        """While there is no daemon: some containers end, the others speak on."""
        spoken = {pod.container: len(pod.lines()) for pod in cls.counting}
        (SIGNALS / "end").touch()
        until(lambda: all((SIGNALS / f"ended-{code}").exists() for code in CODES), SERVED, "containers have ended")
        try:
            until(lambda: all(len(pod.lines()) > spoken[pod.container] + 20 for pod in cls.counting), 10, "logs grow")
            cls.logs_went_on = True
        except Late:
            cls.logs_went_on = False

    @classmethod
    def clear(cls):
        for pod in cls.pods:
            cls.runtime.crictl("stopp", pod.sandbox)
            cls.runtime.crictl("rmp", pod.sandbox)

    def test_every_sandbox_is_ready(self):
        ready = self.runtime.crictl("pods", "-q", "--no-trunc", "--state", "Ready").split()
        self.assertEqual(sorted(ready), sorted(pod.sandbox for pod in self.pods))

    def test_containers_that_ran_still_run(self):
        states = {pod.status()["state"] for pod in self.counting}
        self.assertEqual(states, {"CONTAINER_RUNNING"})

    def test_codes_of_containers_that_ended_meanwhile_are_kept(self):
        ended = until(lambda: self.exits(), SERVED, "the ended containers have exited")
        self.assertEqual(ended, [(code, "Error" if code else "Completed") for code in CODES])

    def exits(self) -> list[tuple[int, str]]:
        statuses = [pod.status() for pod in self.ending]
        if any(status["state"] != "CONTAINER_EXITED" for status in statuses):
            return []
        return [(status["exitCode"], status["reason"]) for status in statuses]

    def test_logs_went_on_while_there_was_no_daemon(self):
        self.assertTrue(self.logs_went_on)

    def test_logs_have_no_gap(self):
        for pod in self.counting:
            now = len(pod.lines())
            until(lambda pod=pod, now=now: len(pod.lines()) > now + 10, SERVED, "the log grows")
            numbers = [int(line.removeprefix("line ")) for line in pod.lines()]
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)))

    def test_a_running_container_can_be_entered(self):
        self.assertEqual(self.runtime.crictl("exec", "-s", self.counting[0].container, "echo", "inside").strip(), "inside")

    def test_z_a_running_container_obeys_sigterm(self):
        pod = self.counting[1]
        self.runtime.crictl("stop", "--timeout", "20", pod.container)
        self.assertEqual(pod.status()["exitCode"], 0)


class HalfMade(unittest.TestCase):
    """The daemon is killed while it makes a pod: afterwards the pod is whole or it is not there."""

    runtime: Runtime

    def test_a_pod_whose_making_was_cut_short_is_whole_or_gone(self):
        for number in range(KILLS_WHILE_MAKING):
            with self.subTest(delay=number):
                self.cut_short(number)

    def cut_short(self, number: int) -> None:
        folder = SIGNALS.parent / f"half-{number}"
        folder.mkdir()
        config = pod_config(f"half-{number}", folder)
        making = subprocess.Popen(["crictl", "runp", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # The moment is what varies here: a little later each time, over the time that a pod takes.
        time.sleep(0.01 + 0.01 * number)
        self.runtime.service.kill()
        making.wait()
        self.runtime.service.restart()
        self.runtime.await_ready()
        self.runtime.crictl("runp", config)
        ready = self.runtime.crictl("pods", "-q", "--name", f"half-{number}", "--state", "Ready").split()
        self.assertEqual(len(ready), 1)
        for sandbox in self.runtime.crictl("pods", "-q", "--name", f"half-{number}").split():
            self.runtime.crictl("stopp", sandbox)
            self.runtime.crictl("rmp", sandbox)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, default="corten")
    options = parser.parse_args()
    SIGNALS.mkdir()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtime = RUNTIMES[options.runtime]()
    leftovers.warm_up(runtime)
    before = leftovers.holdings(runtime.state_folders)
    for case in (Recovery, HalfMade):
        case.runtime = runtime
        run_cases(case)
        leftovers.check(f"the pods of {case.__name__}", before, runtime.state_folders)
    runtime.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
