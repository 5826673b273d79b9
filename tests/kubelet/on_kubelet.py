"""What all cases of the kubelet tier share; `run.py` sets the kubelet, the runtime and the killer before they run."""

import contextlib
import json
import unittest
import urllib.request

from killer import Killer
from kubelet import Kubelet
from runtimes import Runtime
from wait import until

START = 90


class OnKubelet(unittest.TestCase):
    kubelet: Kubelet
    runtime: Runtime
    # Set while somebody kills the daemon again and again.
    killer: Killer | None = None
    maxDiff = None

    def await_running(self, name: str, container: str = "main") -> dict:
        return until(lambda: "running" in self.kubelet.container(name, container)["state"]
                     and self.kubelet.container(name, container), START, f"{name}/{container} runs")

    def await_ended(self, name: str, container: str = "main") -> dict:
        """How the container of a pod that is not restarted has ended."""
        return until(lambda: self.kubelet.container(name, container)["state"]["terminated"], START,
                     f"{name}/{container} has ended")

    def await_ready(self, name: str, wanted: bool) -> None:
        until(lambda: self.kubelet.container(name)["ready"] is wanted, START, f"{name} ready={wanted}")

    def await_stopped(self, name: str) -> None:
        """The kubelet removes sandboxes once a minute: `run.py` awaits that for all pods at the end."""
        until(lambda: f"{name}-node1" not in self.kubelet.pod_names(), START, f"the pod {name} is taken back")
        until(lambda: not self.runtime.crictl("pods", "-q", "--state", "Ready", "--name", f"^{name}-node1$").split(),
              START, f"the sandbox of {name} is stopped")

    def run_in(self, name: str, *words: str, container: str = "main") -> str:
        """What a command says that is run in a container, through the kubelet (its ExecSync)."""
        return until(lambda: self.kubelet.run(name, container, *words) or "\0", START,
                     f"{' '.join(words)} in {name}/{container}").strip("\0\n")

    def page(self, address: str, port: int) -> str:
        with urllib.request.urlopen(f"http://{address}:{port}/index.html", timeout=5) as answer:
            return answer.read().decode().strip()

    def pid(self, name: str, container: str = "main") -> int:
        """The process id of the container's init in the node."""
        found = self.kubelet.container(name, container)["containerID"].split("//")[1]
        return json.loads(until(lambda: self.runtime.crictl("inspect", found), 10, f"inspect {found}"))["info"]["pid"]

    def quiet(self) -> contextlib.AbstractContextManager:
        """While nobody else kills the daemon."""
        return self.killer.pause() if self.killer else contextlib.nullcontext()
