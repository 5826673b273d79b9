"""A Kubernetes node as kubeadm makes it on a runtime: init, the kubelet beside it, kubectl, reset."""

import json
import os
import pathlib
import re
import shutil
import string
import subprocess
import time

from runtimes import POD_SUBNET, Runtime
from service import Service
from wait import until

HERE = pathlib.Path(__file__).resolve().parent
ADMIN = pathlib.Path("/etc/kubernetes/admin.conf")
CONFIG = pathlib.Path("/var/lib/kubelet/config.yaml")
ETCD = pathlib.Path("/var/lib/etcd")
FLAGS = pathlib.Path("/var/lib/kubelet/kubeadm-flags.env")
# Where those who use them put Corten's drop-ins for the kubelet, and kubeadm's flags say so.
DROP_INS = pathlib.Path("/etc/kubernetes/kubelet.conf.d")
DEPLOYED = pathlib.Path(os.environ["CORTEN_CHECKOUT"], "deploy", "kubelet.conf.d")
NODE = "node1"
# What a host of the tests cannot offer: it has no init system to start a kubelet, and cgroups of version 1.
KNOWN = "SystemVerification,Swap,Service-kubelet"
# With these words kubeadm goes on from its look at the node and the pull of its images.
PULLED = "[certs]"
PATIENCE = 600
# Longer than kubectl itself waits for anything: its own words say best what has not come.
LIMIT = PATIENCE + 60
CALLS = re.compile(r'^kubelet_runtime_operations_duration_seconds_sum\{operation_type="(\w+)"\} (\S+)$', re.MULTILINE)
CHANGES = {f"{verb}_{what}" for verb in ("run", "stop", "remove") for what in ("podsandbox", "container")} | {
    "create_container", "start_container", "pull_image"}


class Failed(AssertionError):
    """What a command had to do has not been done; the message has its words."""


class Node:
    """One node with its control plane. Nothing runs before `init`."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.address = os.environ["CORTEN_NODE_IP"]
        self.kubelet: Service | None = None

    def init(self) -> tuple[float, float]:
        """kubeadm init: after how many seconds it had looked at the node and pulled its images, and had ended."""
        config = self._config()
        self._put_drop_ins()
        started = time.monotonic()
        kubeadm = Service("kubeadm", ["kubeadm", "init", "--config", config, "--skip-token-print",
                                      f"--ignore-preflight-errors={KNOWN}"])
        until(lambda: PULLED in kubeadm.said() or not kubeadm.running(), PATIENCE, "kubeadm init has its images")
        pulled = time.monotonic() - started
        until(lambda: self._kept_running(kubeadm), PATIENCE, "kubeadm init ends")
        if (status := kubeadm.ended(1)) != 0:
            raise Failed(f"kubeadm init: status {status}:\n{kubeadm.tail(60)}")
        if PULLED not in kubeadm.said():
            raise Failed(f"kubeadm init has not said {PULLED}:\n{kubeadm.said()}")
        return pulled, time.monotonic() - started

    def _config(self) -> pathlib.Path:
        text = string.Template((HERE / "kubeadm.yaml").read_text())
        path = pathlib.Path(os.environ["CORTEN_NODE"], "kubeadm.yaml")
        path.write_text(text.substitute(address=self.address, endpoint=self.runtime.endpoint, pods=POD_SUBNET,
                                        drop_ins=DROP_INS))
        return path

    def _put_drop_ins(self) -> None:
        """Those that come with the runtime: the kubelet knows the peer's containers without."""
        DROP_INS.mkdir()
        if self.runtime.name == "corten":
            shutil.copytree(DEPLOYED, DROP_INS, dirs_exist_ok=True)

    def _kept_running(self, kubeadm: Service) -> bool:
        """Has kubeadm ended? Meanwhile the kubelet is started, again and again, as its unit would be."""
        if CONFIG.exists() and FLAGS.exists() and not (self.kubelet and self.kubelet.running()):
            self.start_kubelet()
        return not kubeadm.running()

    def start_kubelet(self) -> None:
        """With the flags of kubeadm's drop-in for systemd."""
        if self.kubelet is not None:
            self.kubelet.restart()
            return
        flags = FLAGS.read_text().strip().partition("=")[2].strip('"').split()
        self.kubelet = Service("kubelet", [
            "kubelet", "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
            "--kubeconfig=/etc/kubernetes/kubelet.conf", f"--config={CONFIG}", *flags, "--v=2",
        ])

    def restart_kubelet(self) -> None:
        self.kubelet.stop()
        self.kubelet.restart()

    def reset(self) -> str:
        """kubeadm reset, as one would do it on a host: the kubelet is stopped first. What it said."""
        self.kubelet.stop()
        return run(["kubeadm", "reset", "--force", f"--cri-socket={self.runtime.endpoint}"])

    def kubectl(self, *words: str, given: str = "") -> str:
        return run(["kubectl", f"--kubeconfig={ADMIN}", *words], given)

    def get(self, *words: str) -> dict:
        """One object, or a list of them, as kubectl gives it."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def apply(self, manifest: str) -> None:
        self.kubectl("apply", "-f", str(HERE / "manifests" / manifest))

    def roll_out(self, namespace: str, what: str) -> None:
        self.kubectl("-n", namespace, "rollout", "status", what, f"--timeout={PATIENCE}s")

    def delete(self, *words: str) -> None:
        """Deletes objects, and awaits that they are gone."""
        self.kubectl("delete", *words, f"--timeout={PATIENCE}s")

    def waited_for_runtime(self) -> float:
        """How many seconds the kubelet has waited in all for the runtime to make, start, stop or remove something.

        As the kubelet counts it itself, since it was started: calls at the same time count each.
        """
        lines = CALLS.findall(self.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/metrics"))
        waited = [float(seconds) for operation, seconds in lines if operation in CHANGES]
        if not waited:
            raise Failed(f"the kubelet's metrics do not count how long it waited for the runtime: of {CHANGES} there is none")
        return sum(waited)

    def dns_runs(self) -> bool:
        """Its readiness comes with a probe every 10 s, whenever it began to run."""
        pods = self.get("pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"]
        return bool(pods) and all(pod["status"]["phase"] == "Running" for pod in pods)

    def is_ready(self) -> bool:
        conditions = self.get("node", NODE)["status"]["conditions"]
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def make_places() -> None:
    """What a node of the tests does not have for each tier.

    An overlay over the host's /usr: the control plane's pods mount folders of it, and what is not there is made.
    An empty folder for etcd: kubeadm makes no cluster over another one's data.
    """
    folder = pathlib.Path(os.environ["CORTEN_NODE"], "cluster")
    upper, work, data = folder / "upper", folder / "work", folder / "etcd"
    for place in (upper, work, data, ETCD):
        place.mkdir(parents=True, exist_ok=True)
    run(["mount", "-t", "overlay", "-o", f"lowerdir=/usr,upperdir={upper},workdir={work}", "overlay", "/usr"])
    run(["mount", "--bind", str(data), str(ETCD)])


def run(command: list[str], given: str = "") -> str:
    """What a command says; Failed with its words where its status is not 0, or where it has not ended in time."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            said, complained = process.communicate(given, LIMIT)
            end = f"status {process.returncode}"
        except subprocess.TimeoutExpired:
            process.kill()
            said, complained = process.communicate()
            end = f"not ended after {LIMIT} s"
    if end != "status 0":
        raise Failed(f"{' '.join(command)}: {end}: {complained.strip()[-2000:]}\n{said.strip()[-1000:]}")
    return said
