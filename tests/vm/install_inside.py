#!/usr/bin/env python3
"""What runs in a clean Debian: the commands of README.md and deploy/README.md, as they are written there, to a pod.

A command that fails is told by itself. What cannot be had in this machine, and what stands for it, is in ELSEWHERE and in `stand_in`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "vm"), str(TESTS / "package")]
os.environ["CORTEN_NODE"] = tempfile.mkdtemp(prefix="lane-")
import invariants  # noqa: E402
import leftovers  # noqa: E402
import registry  # noqa: E402
from installed import InstalledCorten, UNIT, Unit, journal, systemctl  # noqa: E402
from pod import Pod  # noqa: E402
from recorder import run_cases  # noqa: E402
from service import log_folder  # noqa: E402
from wait import until  # noqa: E402
from words import commands  # noqa: E402

#: Where the operator stands, with the package.
HERE = pathlib.Path("/root")
PATIENCE = 120
README, DEPLOY = "README.md", "deploy/README.md"
# Lines that are not for this machine.
ELSEWHERE = {
    "deploy/package": "what it has printed is what the node is given",
    "kubeadm init": "the programs and images of Kubernetes are the cluster tier's; only the socket is looked at",
}
SOCKET = "unix:///run/corten/corten.sock"


def stand_in() -> None:
    """What an operator has from elsewhere: the package, and a way to registries, which is a mirror on the loopback here.

    What Corten's package recommends is in the machine from the beginning: there is no way to Debian's archive.
    """
    (package,) = pathlib.Path(os.environ["CORTEN_PACKAGES"], "one").glob("*.deb")
    (HERE / package.name).write_bytes(package.read_bytes())
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))


class Installed(InstalledCorten):
    """The one that the operator has installed."""

    def install(self) -> Unit:
        return Unit(UNIT)


class Words(unittest.TestCase):
    """In the order of their names; each needs what the one before has done."""

    maxDiff = None

    def follow(self, document: str, marked: str) -> None:
        for line in commands(document, marked):
            reason = next((why for words, why in ELSEWHERE.items() if line.startswith(words)), None)
            with self.subTest(line):
                if reason is not None:
                    print(f"not here: {line}: {reason}", flush=True)
                    continue
                self.do(line)

    def do(self, line: str) -> None:
        print(f"# {line}", flush=True)
        done = subprocess.run(["sh", "-c", line], cwd=HERE, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr, sep="", end="", flush=True)
        self.assertEqual(done.returncode, 0, f"{line}: {done.stderr}")

    def test_a_the_first_words_of_all(self):
        self.follow(README, "apt-get install ./corten_")
        self.assertEqual(Unit(UNIT).property("ActiveState"), "active")
        self.assertEqual(systemctl("is-enabled", UNIT).strip(), "enabled")

    def test_b_the_package_and_a_network(self):
        self.follow(DEPLOY, "corten status")

    def test_c_what_kubeadm_asks_of_a_node(self):
        self.follow(DEPLOY, "modprobe br_netfilter")
        self.assertEqual(pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text().strip(), "1")
        self.assertEqual(pathlib.Path("/proc/sys/net/bridge/bridge-nf-call-iptables").read_text().strip(), "1")

    def test_d_both_tell_kubeadm_of_the_socket_that_is_there(self):
        for document in (README, DEPLOY):
            (line,) = [line for line in commands(document, "kubeadm init") if line.startswith("kubeadm init")]
            self.assertEqual(line, f"kubeadm init --cri-socket {SOCKET}")
        self.assertTrue(pathlib.Path(SOCKET.removeprefix("unix://")).is_socket())

    def test_e_the_node_is_ready_and_runs_a_pod(self):
        runtime = Installed()
        runtime.crictl("pull", leftovers.IMAGE)
        pod = Pod(runtime, pathlib.Path(os.environ["CORTEN_NODE"], "pod"), "pod")
        container = pod.make("c", image={"image": leftovers.IMAGE}, command=["sh", "-c", "echo up; exec sleep 100000"], linux={})
        runtime.crictl("start", container)
        until(lambda: "up" in runtime.crictl("logs", container), PATIENCE, "it speaks")
        self.assertEqual(runtime.crictl("exec", "-s", container, "echo", "inside").strip(), "inside")
        address = json.loads(runtime.crictl("inspectp", pod.sandbox))["status"]["network"]["ip"]
        self.assertTrue(address.startswith("10.86."), address)
        self.assertEqual(invariants.await_agreement(runtime), [])


def main() -> int:
    stand_in()
    try:
        run_cases(Words)
    finally:
        (pathlib.Path(log_folder()) / "corten.log").write_text(journal("--unit", UNIT, "--output=short-monotonic"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
