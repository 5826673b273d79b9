"""What kind and minikube ask of a node, asked of one that runs on Corten with Corten inside. In the order of their names."""

import json
import pathlib
import tomllib
import unittest

import leftovers
from node import MANIFESTS, PATIENCE, Node, Refused
from wait import until

# Of the first the node brings an archive along; the second is loaded.
BROUGHT = leftovers.IMAGE
LOADED = "registry.k8s.io/e2e-test-images/nginx:1.14-2"
WORDS = "hello from inside"
CTR = ("ctr", "--namespace=k8s.io", "images")
# There is no registry in the node's reach, and this pod's image must not be pulled.
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello", "namespace": "default"},
    "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
        "name": "main", "image": BROUGHT, "imagePullPolicy": "Never",
        "command": ["sh", "-c", f"echo {WORDS}; trap 'exit 0' TERM; while :; do sleep 1; done"],
    }]},
}
# Commands, and what their refusal says to do.
REFUSED = {
    ("ctr", "-n=k8s.io", "images", "tag", "--force", BROUGHT, "a/b:1"): "kind load",
    ("ctr", "-n=k8s.io", "images", "push", BROUGHT): "push from",
    ("ctr", "-n=k8s.io", "images", "pull", "a/b:1"): "crictl pull a/b:1",
    ("ctr", "--namespace=moby", "images", "list"): "k8s.io",
    (*CTR, "import", "--snapshotter=native", "-"): "overlayfs alone",
    (*CTR, "import", "--no-unpack", "-"): "no option --no-unpack",
    (*CTR, "remove", "localhost/none:1"): "localhost/none:1",
    ("ctr", "run", "x"): "crictl",
    ("containerd",): "systemctl status corten",
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
        config = tomllib.loads(self.node.run("containerd", "config", "dump"))
        self.assertEqual(config["version"], 2)
        self.assertEqual(config["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["snapshotter"], "overlayfs")
        self.assertRegex(self.node.run("containerd", "--version"), r"^containerd \S+ v2\.\d+\.\d+ corten-\d\S+\n$")
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
        found = self.node.run("ctr", "-n=k8s.io", "images", "ls", f"name=={LOADED}")
        self.assertIn(status["id"], found)
        self.assertIn(LOADED, found)
        self.node.run(*CTR, "remove", LOADED)
        self.assertNotIn(LOADED, self.images())

    def test_5_what_is_not_answered_is_refused_with_what_to_do(self):
        for words, advice in REFUSED.items():
            with self.subTest(command=" ".join(words)):
                with self.assertRaises(Refused) as refused:
                    self.node.run(*words)
                self.assertIn(advice, str(refused.exception))

    def test_6_a_restart_of_containerd_restarts_corten_and_no_container(self):
        pids = self.inner()["info"]["pid"], self.node.run("pidof", "corten")
        self.node.run("systemctl", "restart", "containerd")
        after = until(self.inner, PATIENCE, "Corten answers")["info"]["pid"], self.node.run("pidof", "corten")
        self.assertEqual(after[0], pids[0])
        self.assertNotEqual(after[1], pids[1])

    def test_7_the_pod_goes_when_the_kubelet_is_told_so(self):
        self.node.run("rm", f"{MANIFESTS}/pod.json")
        until(lambda: not self.node.run("crictl", "pods", "-q").split(), PATIENCE, "the pod is gone")

    def test_8_the_node_ends_as_docker_ends_one(self):
        self.node.runtime.crictl("stop", "--timeout", "60", self.node.container)
        status = json.loads(self.node.runtime.crictl("inspect", self.node.container))["status"]
        self.assertEqual(status["state"], "CONTAINER_EXITED")
        self.assertNotEqual(status["exitCode"], 137, "it obeyed SIGRTMIN+3")
        self.node.pod.remove()
