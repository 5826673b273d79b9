"""What the kubelet does with Corten when gates are on that are off by default: the drop-ins of `deploy/` are used as they are."""

import os
import pathlib
import re
import shutil

from kubelet import DROP_INS, put, take
from on_kubelet import START, OnKubelet
from pods import IDLE, PAGE, main, pod
from wait import until

DEPLOYED = pathlib.Path(os.environ["CORTEN_CHECKOUT"], "deploy", "kubelet.conf.d")
SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)(?: \d+)?$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# What dashboards and alerts of clusters ask for, of every container.
OF_CONTAINERS = (
    "container_cpu_usage_seconds_total",
    "container_cpu_cfs_throttled_seconds_total",
    "container_memory_working_set_bytes",
    "container_memory_rss",
    "container_memory_cache",
    "container_memory_usage_bytes",
    "container_oom_events_total",
    "container_fs_usage_bytes",
    "container_processes",
    "container_threads",
    "container_spec_memory_limit_bytes",
    "container_start_time_seconds",
)
OF_PODS = (
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_transmit_packets_total",
)


class Dropped(OnKubelet):
    """A kubelet with one of the drop-ins, and afterwards without it."""

    drop_in: str

    @classmethod
    def setUpClass(cls):
        # The kubelet asks for the list of metrics once, when it starts.
        cls.enterClassContext(cls.quiet(cls))
        shutil.copy(DEPLOYED / cls.drop_in, DROP_INS)
        cls.kubelet.restart()
        cls.addClassCleanup(cls.without)

    @classmethod
    def without(cls):
        (DROP_INS / cls.drop_in).unlink()
        cls.kubelet.restart()


class Metrics(Dropped):
    drop_in = "20-corten-metrics.conf"

    def samples(self) -> list[tuple[str, dict, float]]:
        lines = [SAMPLE.match(line) for line in self.kubelet.get("/metrics/cadvisor").splitlines()]
        return [(found["name"], dict(LABEL.findall(found["labels"])), float(found["value"])) for found in lines if found]

    def of(self, name: str, pod_name: str, container: str) -> list[tuple[dict, float]]:
        wanted = {"namespace": "default", "pod": f"{pod_name}-node1", "container": container}
        return [(labels, value) for one, labels, value in self.samples()
                if one == name and wanted.items() <= labels.items()]

    def await_told(self, pod_name: str, container: str, names: tuple[str, ...]) -> None:
        def absent() -> list[str]:
            told = {one for one, labels, _ in self.samples()
                    if (labels.get("pod"), labels.get("container")) == (f"{pod_name}-node1", container)}
            return [name for name in names if name not in told]

        until(lambda: self.assertEqual(absent(), []) or True, START, f"the metrics of {pod_name}")

    def test_containers_have_their_figures_under_the_labels_of_kubernetes(self):
        self.await_running("limited")
        self.await_told("limited", "main", OF_CONTAINERS)
        (labels, used), = self.of("container_memory_working_set_bytes", "limited", "main")
        self.assertGreater(used, 0)
        found = self.kubelet.container("limited")["containerID"].split("//")[1]
        self.assertEqual(labels["name"], found)
        self.assertTrue(labels["id"].endswith(f"/{found}"), labels)
        self.assertIn("busybox", labels["image"])
        (_, limit), = self.of("container_spec_memory_limit_bytes", "limited", "main")
        self.assertEqual(limit, 64 << 20)

    def test_pods_have_theirs_by_interface(self):
        self.await_ready("web", True)
        self.await_told("web", "", OF_PODS)

        def received() -> float:
            (_, value), = [found for found in self.of("container_network_receive_bytes_total", "web", "")
                           if found[0]["interface"] == "eth0"]
            return value

        before = until(lambda: received() + 1, START, "received bytes") - 1
        address = self.kubelet.pod("web")["status"]["podIP"]
        self.assertEqual(self.page(address, 8080), PAGE)
        until(lambda: received() > before, START, "what was received is counted")

    def test_cpu_time_of_a_busy_container_grows(self):
        put(pod("busy", terminationGracePeriodSeconds=0, containers=[main("while :; do :; done")]))

        def used() -> float:
            return sum(value for _, value in self.of("container_cpu_usage_seconds_total", "busy", "main"))

        until(lambda: used() >= 1, START, "a second of CPU time is counted")
        take("busy")
        self.await_stopped("busy")
        until(lambda: not self.of("container_memory_rss", "busy", "main"), START, "the ended container is told no more")

    def test_the_summary_has_the_pods_too(self):
        self.await_running("limited")
        summary = until(lambda: self.kubelet.summary("limited"), START, "the summary has the pod")
        container, = summary["containers"]
        self.assertGreater(container["memory"]["workingSetBytes"], 0)
        self.assertGreater(container["cpu"]["usageCoreNanoSeconds"], 0)


CASES = (Metrics,)
PODS = ()
