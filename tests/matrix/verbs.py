"""The requests of the matrix: what must be there before each, the request, and what must hold after it was repeated."""

import json
import pathlib
import subprocess

import leftovers
from invariants import shim_processes, shims
from runtimes import Runtime
from wait import until

# Nothing else in the node uses it, so its layer goes with it.
IMAGE = "registry.k8s.io/pause:3.9"
POD, CONTAINER, NODE = 0, 1, 2  # NamespaceMode
SETTLES = 20
OBEYS = "trap 'exit 7' TERM; sleep 1000 & wait"


class Request:
    """One request on objects of its own. `name` is also the pod's."""

    # It is about pods: they have a network, a host port, and a process of their own that could be killed.
    pods_own = False

    def __init__(self, runtime: Runtime, folder: pathlib.Path, name: str, point: str) -> None:
        self.runtime, self.name, self.point = runtime, name, point
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.sandbox = self.container = ""
        self.prepare()

    # What there is before it.
    def prepare(self) -> None:
        raise NotImplementedError

    # The words for crictl.
    def words(self) -> list[str]:
        raise NotImplementedError

    def repeat(self) -> None:
        """What a kubelet does that got no answer, or an error: it asks again; then it looks."""
        raise NotImplementedError

    def begin(self) -> subprocess.Popen:
        command = ["crictl", *self.words()]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def again(self) -> str:
        return self.runtime.crictl(*self.words()).strip()

    # === objects ===

    def pod(self, attempt: int = 1) -> str:
        ports = [{"protocol": 0, "container_port": 80, "host_port": 17998}] if self.pods_own else []
        return self.write("pod", {
            "metadata": {"name": self.name, "namespace": "matrix", "uid": self.name, "attempt": attempt},
            "hostname": "matrix" if self.pods_own else "", "log_directory": str(self.folder),
            "linux": {"security_context": self.namespaces()}, "port_mappings": ports,
        })

    def container_config(self) -> str:
        return self.write("container", {
            "metadata": {"name": "c"}, "image": {"image": leftovers.IMAGE}, "command": ["sh", "-c", OBEYS],
            "log_path": "c.log", "linux": {"security_context": self.namespaces()},
        })

    def namespaces(self) -> dict:
        return {"namespace_options": {"pid": POD, "network": POD} if self.pods_own else {"pid": CONTAINER, "network": NODE}}

    def write(self, name: str, document: dict) -> str:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(document))
        return str(path)

    def run_pod(self) -> None:
        self.sandbox = self.runtime.crictl("runp", self.pod()).strip()

    def create(self) -> None:
        words = ("create", "--no-pull", self.sandbox, self.container_config(), self.pod())
        self.container = self.runtime.crictl(*words).strip()

    def start(self) -> None:
        self.runtime.crictl("start", self.container)

    # === what is said of them ===

    def status(self) -> dict:
        return json.loads(self.runtime.crictl("inspect", self.container))["status"]

    def pods(self, *words: str) -> list[str]:
        return self.runtime.crictl("pods", "-q", "--no-trunc", "--name", f"^{self.name}$", *words).split()

    def containers(self) -> list[str]:
        return self.runtime.crictl("ps", "-a", "-q", "--no-trunc", "--pod", self.sandbox).split()

    def remove(self) -> None:
        for sandbox in self.pods():
            self.runtime.crictl("stopp", sandbox)
            self.runtime.crictl("rmp", sandbox)


class RunPodSandbox(Request):
    pods_own = True

    def prepare(self) -> None:
        pass

    def words(self) -> list[str]:
        return ["runp", self.pod()]

    def repeat(self) -> None:
        try:
            self.sandbox = self.again()
        except AssertionError as error:
            # Its holder was killed: it was made, it has stopped, and the next attempt is another pod.
            check("AlreadyExists" in str(error) and "stopped" in str(error), str(error))
            self.sandbox = self.runtime.crictl("runp", self.pod(attempt=2)).strip()
        if not self.is_ready():
            self.runtime.crictl("stopp", self.sandbox)
            self.sandbox = self.runtime.crictl("runp", self.pod(attempt=2)).strip()
        check(self.pods("--state", "Ready") == [self.sandbox], f"ready: {self.pods('--state', 'Ready')}")
        self.create()
        self.start()

    def is_ready(self) -> bool:
        """A holder that was killed is noticed at once, but not before it was killed."""
        status = json.loads(self.runtime.crictl("inspectp", self.sandbox))
        alive = pathlib.Path(f"/proc/{status['info']['pid']}").exists()
        if not alive:
            until(lambda: self.sandbox not in self.pods("--state", "Ready"), SETTLES, "the pod is not ready any more")
        return alive


class CreateContainer(Request):
    def prepare(self) -> None:
        self.run_pod()

    def words(self) -> list[str]:
        return ["create", "--no-pull", self.sandbox, self.container_config(), self.pod()]

    def repeat(self) -> None:
        until(self.is_settled, SETTLES, "each container has a shim or has exited")
        try:
            self.container = self.again()
        except AssertionError as error:
            # Its shim was killed when it was there: it has exited, and its name is taken until it is removed.
            check("AlreadyExists" in str(error) and "exited" in str(error), str(error))
            for container in self.containers():
                self.runtime.crictl("rm", container)
            self.container = self.again()
        check(self.containers() == [self.container], f"containers: {self.containers()}")
        self.start()
        check(self.status()["state"] == "CONTAINER_RUNNING", "it does not run")


    def is_settled(self) -> bool:
        living = self.runtime.crictl("ps", "-q", "--no-trunc", "--pod", self.sandbox, "--state", "Created").split()
        return all(shims_of([one]) for one in living)


class StartContainer(Request):
    def prepare(self) -> None:
        self.run_pod()
        self.create()

    def words(self) -> list[str]:
        return ["start", self.container]

    def repeat(self) -> None:
        until(self.has_settled, SETTLES, "the container is in one of its states")
        state = self.status()["state"]
        if state == "CONTAINER_CREATED":
            self.again()
            state = self.status()["state"]
        elif state == "CONTAINER_RUNNING":
            check_raises(self.again, "FailedPrecondition", "runs already")
        if state == "CONTAINER_EXITED":
            told_why(self.status())
            check_raises(self.again, "FailedPrecondition", "exited")
        else:
            check(state == "CONTAINER_RUNNING", state)
            check(self.runtime.crictl("exec", "-s", self.container, "echo", "on").strip() == "on", "exec")

    def has_settled(self) -> bool:
        """No shim: exited. A shim: created or running, as its init is."""
        status = self.status()
        has_shim = bool(shims_of([self.container]))
        return has_shim == (status["state"] != "CONTAINER_EXITED") or status["state"] == "CONTAINER_EXITED"


class StopContainer(Request):
    def prepare(self) -> None:
        self.run_pod()
        self.create()
        self.start()

    def words(self) -> list[str]:
        # Without a grace it is killed at once; with one it obeys.
        return ["stop", "--timeout", "0" if self.point == "stop_container/killed" else "60", self.container]

    def repeat(self) -> None:
        self.again()
        check(self.status()["state"] == "CONTAINER_EXITED", self.status()["state"])
        status = self.status()
        check((status["exitCode"], status["reason"]) in ((7, "Error"), (137, "Error"), (255, "Unknown")), str(status))
        told_why(status)


class RemoveContainer(Request):
    def prepare(self) -> None:
        self.run_pod()
        self.create()
        self.start()

    def words(self) -> list[str]:
        return ["rm", "--force", self.container]

    def repeat(self) -> None:
        # crictl asks for the status first, which of a container that has gone is NotFound.
        if self.container in self.containers():
            self.again()
        check(self.containers() == [], f"containers: {self.containers()}")
        self.create()


class StopPodSandbox(Request):
    pods_own = True

    def prepare(self) -> None:
        self.run_pod()
        self.create()
        self.start()

    def words(self) -> list[str]:
        return ["stopp", self.sandbox]

    def repeat(self) -> None:
        self.again()
        check(self.pods("--state", "NotReady") == [self.sandbox], "it is not stopped")
        check(self.status()["state"] == "CONTAINER_EXITED", self.status()["state"])


class RemovePodSandbox(Request):
    pods_own = True

    def prepare(self) -> None:
        self.run_pod()
        self.create()
        self.start()

    def words(self) -> list[str]:
        return ["rmp", "--force", self.sandbox]

    def repeat(self) -> None:
        if self.sandbox in self.pods():
            self.again()
        check(self.pods() == [], f"pods: {self.pods()}")


class PullImage(Request):
    def prepare(self) -> None:
        if self.listed():
            self.remove()

    def words(self) -> list[str]:
        return ["pull", IMAGE]

    def repeat(self) -> None:
        self.again()
        check(bool(self.listed()), "it is not listed")

    def listed(self) -> list[str]:
        return self.runtime.crictl("images", "-q", IMAGE).split()

    def remove(self) -> None:
        self.runtime.crictl("rmi", IMAGE)


REQUESTS = {
    "run_pod_sandbox": RunPodSandbox, "create_container": CreateContainer, "start_container": StartContainer,
    "stop_container": StopContainer, "stop_pod_sandbox": StopPodSandbox, "remove_container": RemoveContainer,
    "remove_pod_sandbox": RemovePodSandbox, "pull_image": PullImage,
}


def check(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def check_raises(call, *words: str) -> None:
    try:
        call()
    except AssertionError as error:
        check(all(word in str(error) for word in words), f"it says {error}")
        return
    raise AssertionError(f"no error that says {words}")


def told_why(status: dict) -> None:
    """An end that nobody saw says so."""
    check(bool(status["reason"]), "no reason")
    if status["reason"] == "Unknown":
        check("shim was killed" in status["message"], f"message: {status['message']}")


def shims_of(containers: list[str]) -> list[int]:
    """The pids of the shims of these containers."""
    return [pid for pid, id in shims() if id in containers]


def holders() -> list[int]:
    return [pid for pid, verb, _ in shim_processes() if verb == "pause"]


def clones() -> list[int]:
    """Processes of shims that are no shims themselves: the stage of a create, and its init before the program."""
    resident = all_shims()
    return [pid for pid, verb, _ in shim_processes() if verb == "run" and pid not in resident]


def all_shims() -> list[int]:
    return [pid for pid, _ in shims()]
