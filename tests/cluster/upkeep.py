"""The node is drained and taken back into service."""

from node import NODE
from on_cluster import SOON, OnCluster, page
from wait import until

# Those of kubeadm's own, and those of a DaemonSet, stay.
STAYING = ("Node", "DaemonSet")
NAMES = ("etcd-", "kube-apiserver-", "kube-controller-manager-", "kube-scheduler-", "kube-proxy-", "everywhere-")
ROLLED_OUT = (
    ("work", "ds/everywhere"),
    ("work", "deploy/web"),
    ("work", "statefulset/state"),
    ("kube-system", "deploy/coredns"),
    ("kube-system", "deploy/metrics-server"),
)


class Drains(OnCluster):
    namespace = "work"

    def placed(self) -> list[dict]:
        """The pods on the node that a drain has to take away, and that have not ended."""
        pods = self.node.get("pods", "--all-namespaces", f"--field-selector=spec.nodeName={NODE}")["items"]
        return [pod for pod in pods if self.owner(pod) not in STAYING and pod["status"]["phase"] in ("Pending", "Running")]

    @staticmethod
    def owner(pod: dict) -> str:
        return next((one["kind"] for one in pod["metadata"].get("ownerReferences", [])), "")

    def test_drained_node_is_empty_and_fills_again(self):
        self.roll_out()
        self.assertGreater(len(self.placed()), 5)
        self.node.kubectl("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={SOON}s")
        self.assertEqual([pod["metadata"]["name"] for pod in self.placed()], [])
        until(lambda: self.sandboxes() == self.staying(), SOON, "the runtime has only the sandboxes that stay")
        self.assertGreaterEqual(len(self.staying()), len(NAMES))
        self.node.kubectl("uncordon", NODE)
        self.roll_out()
        until(lambda: page(self.service_address("web")), SOON, "the Service answers again")

    def roll_out(self) -> None:
        for namespace, what in ROLLED_OUT:
            self.node.roll_out(namespace, what)

    def sandboxes(self) -> set[str]:
        return set(self.node.runtime.crictl("pods", "--state", "Ready", "-q").split())

    def staying(self) -> set[str]:
        """The sandboxes of kubeadm's own pods and of DaemonSets."""
        runtime, found = self.node.runtime, set()
        for name in NAMES:
            found |= set(runtime.crictl("pods", "--state", "Ready", "--name", f"^{name}", "-q").split())
        return found


CASES = (Drains,)
