"""What kind asks of a node, asked of one that runs on Corten with Corten inside. In the order of their names."""

import json
import pathlib
import unittest

from commands import BROUGHT, CTR, LOADED
from node import MANIFESTS, PATIENCE, Node
from wait import until

WORDS = "hello from inside"
# There is no registry in the node's reach, and this pod's image must not be pulled.
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello", "namespace": "default"},
    "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
        "name": "main", "image": BROUGHT, "imagePullPolicy": "Never",
        "command": ["sh", "-c", f"echo {WORDS}; trap 'exit 0' TERM; while :; do sleep 1; done"],
    }]},
}


class Kind(unittest.TestCase):
    """One node through all of it. `archive` holds the image that is loaded."""

    node: Node
    archive: pathlib.Path
    maxDiff = None

    def images(self) -> set[str]:
        return set(self.node.run(*CTR, "list", "-q").split())

    def inner(self) -> dict:
        """The container of the node's pod, as the node's Corten has it."""
        ids = self.node.run("crictl", "ps", "-q", "--name", "main").split()
        self.assertEqual(len(ids), 1)
        return json.loads(self.node.run("crictl", "inspect", ids[0]))

    def test_1_kind_finds_in_it_what_it_asks_for(self):
        self.assertIn("overlayfs", self.node.run("containerd", "config", "dump"))
        self.assertEqual(self.node.run("systemctl", "is-active", "containerd").strip(), "active")
        self.assertIn("corten", self.node.run("crictl", "version"))

    def test_2_a_kubelet_in_it_runs_a_pod_of_the_image_that_came_with_it(self):
        self.assertEqual(self.images(), set())
        self.node.start_kubelet(POD)
        until(self.inner, PATIENCE, "the pod runs")
        self.assertEqual(self.images(), {BROUGHT})

    def test_3_the_pod_inside_is_reached(self):
        container = until(self.inner, PATIENCE, "the pod runs")
        name = container["status"]["id"]
        self.assertEqual(self.node.run("crictl", "exec", "-s", name, "hostname").strip(), "hello-node1")
        self.assertEqual(self.node.run("crictl", "logs", name).strip(), WORDS)
        sandbox = json.loads(self.node.run("crictl", "inspectp", container["info"]["sandboxID"]))
        address = sandbox["status"]["network"]["ip"]
        self.assertTrue(address.startswith("10.86."), address)
        self.assertIn(address, self.node.run("crictl", "exec", "-s", name, "ip", "-4", "address"))

    def test_4_an_image_is_loaded_found_and_removed(self):
        self.node.run_with(self.archive, *CTR, "import", "--all-platforms", "--digests", "--snapshotter=overlayfs", "-")
        status = json.loads(self.node.run("crictl", "inspecti", LOADED))["status"]
        self.assertIn(LOADED, status["repoTags"])
        self.assertIn(LOADED, self.images())
        self.node.run(*CTR, "remove", LOADED)
        self.assertNotIn(LOADED, self.images())

    def test_5_a_restart_of_containerd_restarts_corten_and_no_container(self):
        pids = self.inner()["info"]["pid"], self.node.run("pidof", "corten")
        self.node.run("systemctl", "restart", "containerd")
        after = until(self.inner, PATIENCE, "Corten answers")["info"]["pid"], self.node.run("pidof", "corten")
        self.assertEqual(after[0], pids[0])
        self.assertNotEqual(after[1], pids[1])

    def test_6_the_pod_goes_when_the_kubelet_is_told_so(self):
        self.node.run("rm", f"{MANIFESTS}/pod.json")
        until(lambda: not self.node.run("crictl", "pods", "-q").split(), PATIENCE, "the pod is gone")

    def test_7_the_node_ends_as_docker_ends_one(self):
        self.node.runtime.crictl("stop", "--timeout", "60", self.node.container)
        status = json.loads(self.node.runtime.crictl("inspect", self.node.container))["status"]
        self.assertEqual(status["state"], "CONTAINER_EXITED")
        self.assertNotEqual(status["exitCode"], 137, "it obeyed SIGRTMIN+3")
        self.node.pod.remove()
