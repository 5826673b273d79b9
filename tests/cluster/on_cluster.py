"""What all cases of the cluster tier share; `run.py` sets the node before they run."""

import json
import unittest
import urllib.request

from node import ADMIN, Node
from service import Service
from wait import until

SOON = 300
BUSYBOX = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
# Where a pod's status has its containers, by their kinds.
STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


class OnCluster(unittest.TestCase):
    node: Node
    maxDiff = None
    # Each room has a namespace of its own.
    namespace = "default"

    def kubectl(self, *words: str, given: str = "") -> str:
        return self.node.kubectl("-n", self.namespace, *words, given=given)

    def delete(self, *words: str) -> None:
        self.node.delete("-n", self.namespace, *words)

    def get(self, *words: str) -> dict:
        return self.node.get("-n", self.namespace, *words)

    def run_in(self, pod: str, *words: str, container: str = "main") -> str:
        """What a command says that is run in a container by `kubectl exec`."""
        return self.kubectl("exec", pod, "-c", container, "--", *words).strip()

    def await_pod(self, pod: str, condition: str = "Ready") -> None:
        self.kubectl("wait", f"--for=condition={condition}", f"pod/{pod}", f"--timeout={SOON}s")

    def pods(self, label: str) -> list[dict]:
        """The pods of a label, in the order of their names, without those that are on their way out."""
        items = self.get("pods", "-l", label)["items"]
        there = [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]
        return sorted(there, key=lambda pod: pod["metadata"]["name"])

    def names(self, label: str) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.pods(label)}

    def service_address(self, service: str) -> str:
        return self.get("service", service)["spec"]["clusterIP"]

    def status_of(self, pod: str, container: str = "main") -> dict:
        """A container's status, whichever kind of container it is."""
        status = self.get("pod", pod)["status"]
        return next(one for kind in STATUSES for one in status.get(kind, []) if one["name"] == container)

    def patch(self, what: str, change: dict, *more: str) -> None:
        self.kubectl("patch", what, "--patch", json.dumps(change), *more)

    def started(self, *words: str) -> Service:
        """A kubectl in the background, which is ended with the test."""
        kubectl = Service(words[0], ["kubectl", f"--kubeconfig={ADMIN}", "-n", self.namespace, *words])
        self.addCleanup(kubectl.kill)
        return kubectl


def page(address: str, port: int = 80, seconds: float = 10) -> str:
    """What a web server answers. Each request is a new connection."""
    with urllib.request.urlopen(f"http://{address}:{port}/", timeout=seconds) as answer:
        return answer.read().decode().strip()


def await_page(address: str, port: int, wanted: str) -> None:
    until(lambda: wanted in page(address, port), SOON, f"{address}:{port} answers {wanted!r}")
