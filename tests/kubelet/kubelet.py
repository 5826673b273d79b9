"""A standalone kubelet: no API server, pods from a folder of manifests, its own API on the node's loopback."""

import json
import pathlib
import ssl
import urllib.error
import urllib.parse
import urllib.request

from service import Service
from wait import until

MANIFESTS = pathlib.Path("/etc/kubernetes/manifests")
CONFIG_FILE = pathlib.Path("/var/lib/kubelet/config.yaml")
DROP_INS = pathlib.Path("/var/lib/kubelet/config.d")
POD_LOGS = pathlib.Path("/var/log/pods")
NODE = "node1"
API = "https://127.0.0.1:10250"
CONFIG = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "staticPodPath": str(MANIFESTS),
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "failCgroupV1": False,
    "failSwapOn": False,
    "enforceNodeAllocatable": [],
    "resolvConf": "/etc/resolv.conf",
    "fileCheckFrequency": "1s",
    "syncFrequency": "5s",
    # The default of 5 minutes would make the crash loop wait 10 s, 20 s, 40 s …
    "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
    "containerLogMaxSize": "100Ki",
    "containerLogMaxFiles": 20,
    "containerLogMonitorInterval": "3s",
    "featureGates": {"KubeletCrashLoopBackOffMax": True},
    # The host's disk may be nearly full: not what these tests are about.
    "imageGCHighThresholdPercent": 100,
    "imageGCLowThresholdPercent": 99,
    "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%",
                     "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"},
}

# Made once, and without the system's authorities: to read them takes longer than an answer.
TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TRUSTING.check_hostname, TRUSTING.verify_mode = False, ssl.CERT_NONE


class Kubelet:
    """Starts the kubelet on a runtime and speaks to its API."""

    def __init__(self, endpoint: str) -> None:
        for folder in (MANIFESTS, DROP_INS):
            folder.mkdir(parents=True, exist_ok=True)
        self.endpoint = endpoint
        self._configure()
        self.service = Service("kubelet", [
            "kubelet", "--config", CONFIG_FILE, "--config-dir", DROP_INS, "--hostname-override", NODE, "--cert-dir", "/var/lib/kubelet/pki", "--v", "2",
        ])
        until(self.healthy, 60, "the kubelet is healthy")

    def restart(self, **changes) -> None:
        """Stops it and starts it again, with these changes of its configuration."""
        self.service.stop()
        self._configure(**changes)
        self.service.restart()
        until(self.healthy, 60, "the kubelet is healthy again")

    def _configure(self, **changes) -> None:
        CONFIG_FILE.write_text(json.dumps({**CONFIG, "containerRuntimeEndpoint": self.endpoint, **changes}, indent=1))

    def healthy(self) -> bool:
        if not self.service.running():
            raise SystemExit(f"the kubelet has ended:\n{self.service.tail()}")
        return self.get("/healthz") == "ok"

    def get(self, path: str) -> str:
        """The answer to a GET of the kubelet's own API. Its certificate is self-signed."""
        return self._ask(urllib.request.Request(API + path))

    def run(self, name: str, container: str, *words: str) -> str:
        """What a command says that is run in a container of a pod; an AssertionError with its words where it fails."""
        query = urllib.parse.urlencode({"cmd": " ".join(words)})
        path = f"/run/default/{name}-{NODE}/{container}?{query}"
        try:
            return self._ask(urllib.request.Request(API + path, method="POST"))
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    @staticmethod
    def _ask(request: urllib.request.Request) -> str:
        with urllib.request.urlopen(request, context=TRUSTING, timeout=10) as answer:
            return answer.read().decode()

    def pod_names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.pods()}

    def pod(self, name: str) -> dict:
        """The static pod of the manifest NAME, with its status; LookupError while there is none."""
        for pod in self.pods():
            if pod["metadata"]["name"] == f"{name}-{NODE}":
                return pod
        raise LookupError(f"no pod {name}")

    def container(self, name: str, container: str = "main") -> dict:
        """The status of a container of a pod; LookupError while there is none."""
        status = self.pod(name).get("status", {})
        for one in status.get("containerStatuses", []) + status.get("initContainerStatuses", []):
            if one["name"] == container:
                return one
        raise LookupError(f"no status of {name}/{container}")

    def logs(self, name: str, query: str = "") -> str:
        return self.get(f"/containerLogs/default/{name}-{NODE}/main{query}")

    def log_file(self, name: str, container: str = "main") -> pathlib.Path:
        """Where the CRI log of the newest start of the pod's container is."""
        uid = self.pod(name)["metadata"]["uid"]
        starts = (POD_LOGS / f"default_{name}-{NODE}_{uid}" / container).glob("*.log")
        return max(starts, key=lambda path: int(path.stem))

    def pods(self) -> list[dict]:
        """All of them, each with its status."""
        return json.loads(self.get("/pods"))["items"] or []

    def summary(self, name: str) -> dict:
        """What the kubelet's summary says of the static pod; LookupError while it does not have it."""
        for one in json.loads(self.get("/stats/summary"))["pods"]:
            if one["podRef"]["name"] == f"{name}-{NODE}":
                return one
        raise LookupError(f"no {name} in the summary")

    def stop(self) -> None:
        self.service.stop()


def put(pod: dict) -> None:
    """Gives the kubelet a static pod. Renamed into place: the kubelet watches the folder."""
    beside = MANIFESTS.parent / pod["metadata"]["name"]
    beside.write_text(json.dumps(pod))
    beside.rename(MANIFESTS / f"{pod['metadata']['name']}.json")


def take(name: str) -> None:
    """Takes a static pod away."""
    (MANIFESTS / f"{name}.json").unlink()
