"""What the node says of its pods' use: `kubectl top`, the kubelet's summary and its /metrics/cadvisor."""

import json
import re
import socket
from collections import Counter
from contextlib import suppress

from node import NODE
from on_cluster import SOON, STATUSES, OnCluster
from wait import until

CADVISOR = f"/api/v1/nodes/{NODE}/proxy/metrics/cadvisor"
SUMMARY = f"/api/v1/nodes/{NODE}/proxy/stats/summary"
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)(?: \d+)?$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# What dashboards and alerts ask for, of every container and of every pod. What of it may be 0: CPU time is in whole seconds,
# and nothing need be cached, killed or limited.
MAY_BE_0 = {
    "container_cpu_usage_seconds_total",
    "container_memory_cache",
    "container_oom_events_total",
    "container_spec_memory_limit_bytes",
}
OF_CONTAINERS = MAY_BE_0 | {
    "container_memory_rss",
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_processes",
    "container_start_time_seconds",
    "container_threads",
}
OF_PODS = {
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_transmit_packets_total",
}
# One that works all the time.
BUSY = ("container_cpu_usage_seconds_total", "kube-system", f"kube-apiserver-{NODE}", "kube-apiserver")
# The pods that run all the time, and a port at which none of them listens.
PODS = ("composed", "crashed", "probed", "resized", "users", "volumes")
CLOSED = 9


class Usage(OnCluster):
    namespace = "pods"

    def setUp(self) -> None:
        for pod in PODS:
            self.await_pod(pod)

    def running(self) -> set[tuple[str, str]]:
        """Every container of the namespace that runs now, with its pod before it."""
        return {(pod["metadata"]["name"], one["name"]) for pod in self.get("pods")["items"] for kind in STATUSES
                for one in pod["status"].get(kind, []) if "running" in one["state"]}

    def await_all(self, missing, what: str) -> None:
        until(lambda: self.assertEqual(missing(), set()) or True, SOON, what)

    def test_top_knows_every_container_and_the_node(self):
        self.node.roll_out("kube-system", "deploy/metrics-server")

        def missing() -> set[tuple[str, ...]]:
            rows = self.kubectl("top", "pods", "--containers").splitlines()[1:]
            return self.running() - {tuple(row.split()[:2]) for row in rows}

        self.await_all(missing, "kubectl top has every container")
        self.assertRegex(self.kubectl("top", "node", NODE), rf"{NODE} +\d+m")

    def test_summary_has_each_containers_use(self):
        def missing() -> set[tuple[str, ...]]:
            pods = [pod for pod in json.loads(self.node.kubectl("get", "--raw", SUMMARY))["pods"]
                    if pod["podRef"]["namespace"] == self.namespace and pod.get("network", {}).get("rxBytes", 0) > 0]
            told = {(pod["podRef"]["name"], one["name"]) for pod in pods for one in pod["containers"] if used(one)}
            return self.running() - told

        self.knock()
        self.await_all(missing, "the summary has cpu, memory and network of every pod")

    def test_metrics_have_the_labels_of_pods_and_containers(self):
        def missing() -> set[tuple[str, ...]]:
            sums, running = self.sums(), self.running()
            asked = {(name, self.namespace, *one) for name in OF_CONTAINERS for one in running} | {BUSY}
            asked |= {(name, self.namespace, pod, "") for name in OF_PODS for pod, _ in running}
            may_be_0 = {one for one in sums if one[0] in MAY_BE_0} - {BUSY}
            return {one for one in asked if sums[one] <= 0} - may_be_0

        self.knock()
        self.await_all(missing, "the metrics of every pod and container")

    def sums(self) -> Counter[tuple[str, ...]]:
        """What the samples of one metric say together: by its name, a namespace, a pod and a container."""
        sums: Counter[tuple[str, ...]] = Counter()
        for name, labels, value in SAMPLE.findall(self.node.kubectl("get", "--raw", CADVISOR)):
            labelled = dict(LABEL.findall(labels))
            sums[name, *(labelled.get(label, "") for label in ("namespace", "pod", "container"))] += float(value)
        return sums

    def knock(self) -> None:
        """Every pod gets a packet, and sends one back: some have nobody who would talk to them."""
        for address in (self.get("pod", pod)["status"]["podIP"] for pod in PODS):
            with suppress(OSError), socket.create_connection((address, CLOSED), timeout=10):
                pass


def used(container: dict) -> bool:
    """Has its processor worked, and does it have memory? How much it works just now may be nothing."""
    cpu, memory = container.get("cpu", {}), container.get("memory", {})
    return cpu.get("usageCoreNanoSeconds", 0) > 0 and "usageNanoCores" in cpu and memory.get("workingSetBytes", 0) > 0


CASES = (Usage,)
