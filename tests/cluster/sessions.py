"""kubectl with a pod on the other end: exec, attach, cp, logs, port-forward, debug, top."""

import hashlib
import json
import os
import pathlib
import re

from node import Failed
from on_cluster import SOON, OnCluster, page
from wait import until

BUSYBOX = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
CONTENT = 3_000_000
CADVISOR = "/api/v1/nodes/node1/proxy/metrics/cadvisor"
# What dashboards ask for, of containers and of pods.
OF_CONTAINERS = ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes")
OF_PODS = ("container_network_receive_bytes_total",)
SUMMARY = "/api/v1/nodes/node1/proxy/stats/summary"


class Sessions(OnCluster):
    namespace = "pods"

    def test_exec_hands_on_input_output_and_status(self):
        self.await_pod("composed")
        said = self.kubectl("exec", "-i", "composed", "-c", "main", "--", "sh", "-c", "cat; echo done", given="from outside\n")
        self.assertEqual(said, "from outside\ndone\n")
        with self.assertRaisesRegex(Failed, "status 7"):
            self.kubectl("exec", "composed", "-c", "main", "--", "sh", "-c", "exit 7")

    def test_attach_to_a_pod_that_reads(self):
        said = self.kubectl("run", "reading", f"--image={BUSYBOX}", "--restart=Never", "--rm", "-i", "--quiet",
                            "--command", "--", "sh", "-c", 'read line; echo "heard $line"', given="a word\n")
        self.assertIn("heard a word", said)

    def test_copies_come_back_the_same(self):
        self.await_pod("composed")
        folder = pathlib.Path(os.environ["TMPDIR"])
        (folder / "there").write_bytes(os.urandom(CONTENT))
        self.kubectl("cp", str(folder / "there"), "composed:/data/copied", "-c", "main")
        self.kubectl("cp", "composed:/data/copied", str(folder / "back"), "-c", "main")
        there, back = (hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("there", "back"))
        self.assertEqual(there, back)

    def test_logs_of_now_and_of_before(self):
        until(lambda: "second life" in self.kubectl("logs", "crashed"), SOON, "the second life's log")
        self.assertEqual(self.kubectl("logs", "crashed", "--previous"), "first life\n")

    def test_logs_are_followed_to_the_end(self):
        self.kubectl("run", "talking", f"--image={BUSYBOX}", "--restart=Never", "--command", "--",
                     "sh", "-c", "echo line 1; until [ -e /followed ]; do sleep 0.1; done; for n in 2 3 4 5; do echo line $n; done")
        self.addCleanup(self.delete, "pod", "talking", "--now")
        until(lambda: "line 1" in self.kubectl("logs", "talking"), SOON, "the first line")
        following = self.started("logs", "--follow", "talking")
        until(lambda: "line 1" in following.said(), SOON, "the first line is followed")
        self.run_in("talking", "touch", "/followed", container="talking")
        until(lambda: not following.running(), SOON, "the log ends with its pod")
        self.assertEqual(following.said(), "".join(f"line {n}\n" for n in range(1, 6)))
        self.assertEqual(following.ended(1), 0)

    def test_port_forward(self):
        self.await_pod("probed")
        name = self.run_in("probed", "hostname")
        forward = self.started("port-forward", "pod/probed", ":8080")
        port = int(until(lambda: re.search(r"127\.0\.0\.1:(\d+)", forward.said()), SOON, "a port of the node")[1])
        for _ in range(20):
            self.assertEqual(page("127.0.0.1", port), name)

    def test_debug_container_sees_its_target(self):
        self.await_pod("composed")
        self.kubectl("debug", "composed", f"--image={BUSYBOX}", "--target=main", "--container=looking", "--",
                     "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; ls /proc/1/root/data")
        until(lambda: "terminated" in self.status_of("composed", "looking").get("state", {}), SOON, "the debugger has ended")
        said = self.kubectl("logs", "composed", "-c", "looking")
        self.assertIn("echo main", said)
        self.assertIn("order", said)
        self.assertEqual(self.status_of("composed")["restartCount"], 0)


class Figures(OnCluster):
    """What the node says of its pods' use."""

    namespace = "pods"

    def test_top_knows_every_pod_and_the_node(self):
        self.node.roll_out("kube-system", "deploy/metrics-server")
        top = until(lambda: self.kubectl("top", "pods", "--containers"), SOON, "kubectl top pods answers")
        rows = {tuple(line.split()[:2]): line.split()[3] for line in top.splitlines()[1:]}
        self.assertIn(("composed", "main"), rows)
        self.assertIn(("composed", "beside"), rows)
        self.assertRegex(self.kubectl("top", "node", "node1"), r"node1 +\d+m")

    def test_summary_has_each_containers_use(self):
        self.await_pod("volumes")

        def used() -> bool:
            one = next(pod for pod in self.summary() if pod["podRef"]["name"] == "volumes")
            main, = one["containers"]
            return main["memory"]["workingSetBytes"] > 0 and "usageNanoCores" in main["cpu"] and one["network"]["rxBytes"] >= 0

        until(used, SOON, "the summary has cpu, memory and network of the pod")

    def test_metrics_have_the_labels_of_pods_and_containers(self):
        self.await_pod("volumes")
        until(lambda: self.assertEqual(self.untold(), set()) or True, SOON, "the metrics of volumes and its container")

    def untold(self) -> set[str]:
        """The names of metrics that have no sample under the labels of the pod volumes, or of its container."""
        lines = [line for line in self.node.kubectl("get", "--raw", CADVISOR).splitlines()
                 if 'namespace="pods"' in line and 'pod="volumes"' in line]
        told = {line.partition("{")[0] for line in lines}
        of_container = {line.partition("{")[0] for line in lines if 'container="main"' in line}
        return {*OF_PODS} - told | {*OF_CONTAINERS} - of_container

    def summary(self) -> list[dict]:
        return json.loads(self.node.kubectl("get", "--raw", SUMMARY))["pods"]


CASES = (Sessions, Figures)
