"""What all attempts share: a pod of the attacker's, a neighbour that must come to no harm, and a victim on the node."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

import leftovers
import pod
from images import Images
from runtimes import Runtime
from wait import until

HERE = pathlib.Path(__file__).resolve().parent
NODE = pathlib.Path(os.environ.get("CORTEN_NODE", "/nonexistent"))
SIGNALS = NODE / "signals"
# The attacker's own program, compiled by run.py.
PROBE = NODE / "probe"
# A place of the node that no container is given. Links and paths of attackers lead to it.
VICTIM = NODE / "victim"
SECRET = "the node's secret"
IDLE = ("sh", "-c", "trap exit TERM; touch /tmp/idle; while :; do usleep 50000; done")
LIMIT = 30
CORE_PATTERN = pathlib.Path("/proc/sys/kernel/core_pattern")


def make_victim() -> None:
    shutil.rmtree(VICTIM, ignore_errors=True)
    VICTIM.mkdir()
    (VICTIM / "secret").write_text(SECRET)
    (VICTIM / "secret").chmod(0o600)


def victim() -> dict[str, str]:
    """All that is there, with its kind and content."""
    entries = sorted(VICTIM.rglob("*"))
    return {str(path.relative_to(VICTIM)): f"{path.lstat().st_mode:o} " + (path.read_text() if path.is_file() else "") for path in entries}


class Pod(pod.Pod):
    """A pod of this tier; containers by name."""

    def __init__(self, runtime: Runtime, name: str, **config) -> None:
        super().__init__(runtime, NODE / "pods" / name, name, **{"hostname": "attacker", **config})

    def create(self, name: str, *command: str, **config) -> str:
        """Makes a container. What is in `linux` goes beside a PID namespace of the container's own."""
        linux = {"security_context": {"namespace_options": {"pid": 1}}, **config.pop("linux", {})}
        probe = {"host_path": str(PROBE), "container_path": "/probe", "readonly": True}
        signals = {"host_path": str(SIGNALS), "container_path": "/signals"}
        image = {"image": config.pop("image", leftovers.IMAGE)}
        mounts = [probe, signals, *config.pop("mounts", [])]
        return self.make(name, image=image, command=list(command), linux=linux, mounts=mounts, **config)

    def start(self, name: str, *command: str, **config) -> str:
        container = self.create(name, *command, **config)
        self.runtime.crictl("start", container)
        return container

    def run(self, name: str, *command: str, **config) -> str:
        """Runs a container to its end; gives what it has said."""
        container = self.start(name, *command, **config)
        until(lambda: self.status(container)["state"] == "CONTAINER_EXITED", LIMIT, f"{name} has ended")
        return self.said(name)

    def idle(self, name: str = "idle", **config) -> str:
        return self.start(name, *IDLE, **config)

    def said(self, name: str) -> str:
        """Of both streams, as the log has it."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "".join(line.split(" ", 3)[3] + "\n" for line in lines)

    def status(self, container: str) -> dict:
        return json.loads(self.runtime.crictl("inspect", container))["status"]

    def pid(self, container: str) -> int:
        return json.loads(self.runtime.crictl("inspect", container))["info"]["pid"]

    def exec(self, container: str, *words: str) -> str:
        """ExecSync; both streams. It may fail: then why."""
        command = ["crictl", "exec", "-s", container, *words]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False)
        return done.stdout + done.stderr


class Attempts(unittest.TestCase):
    """`run.py` sets the runtime and the images. Each class has a pod of its own, each test a whole victim."""

    runtime: Runtime
    images: Images
    pod: Pod
    pod_config: dict = {}
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.pod = Pod(cls.runtime, cls.__name__.lower(), **cls.pod_config)
        cls.addClassCleanup(cls.pod.remove)

    def keep_core_pattern(self) -> None:
        """It is the machine's, not the node's: what broke it is told, and it is put back."""
        before = CORE_PATTERN.read_text()
        self.addCleanup(CORE_PATTERN.write_text, before)
        self.addCleanup(lambda: self.assertEqual(CORE_PATTERN.read_text(), before))

    def setUp(self):
        make_victim()
        before = victim()
        self.addCleanup(lambda: self.assertEqual(victim(), before, "the node's files"))
        for signal in SIGNALS.iterdir():
            signal.unlink()

    @property
    def name(self) -> str:
        """One for what a test makes, unlike that of any other test."""
        return hashlib.sha256(self.id().encode()).hexdigest()[:12]

    def volume(self, name: str = "volume") -> pathlib.Path:
        """An empty folder of the node that containers may have as a volume."""
        folder = NODE / "volumes" / f"{self.name}-{name}"
        folder.mkdir(parents=True)
        return folder

    def a_pod(self, **config) -> Pod:
        """One for this test alone."""
        pod = Pod(self.runtime, self.name, **config)
        self.addCleanup(pod.remove)
        return pod

    def assert_refused(self, said: str, at_least: int = 1) -> None:
        """The probe has tried, and nothing went through."""
        self.assertEqual(re.findall(r"^got: .*$", said, re.MULTILINE), [], said)
        self.assertGreaterEqual(len(re.findall(r"^refused: ", said, re.MULTILINE)), at_least, said)

    def fails(self, make, *words: str) -> str:
        """What is asked for is refused, with all these words; gives the whole of it."""
        with self.assertRaises(AssertionError) as refused:
            make()
        message = str(refused.exception)
        for word in words:
            self.assertIn(word, message)
        return message


def mount(host: pathlib.Path | str, inside: str, **more) -> dict:
    return {"host_path": str(host), "container_path": inside, **more}


def security(**context) -> dict:
    """`linux` of a container with a PID namespace of its own."""
    return {"security_context": {"namespace_options": {"pid": 1}, **context}}


def processes(program: str, *words: str) -> list[int]:
    """Of the node: those that run this program with these words among their arguments."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        if os.path.basename(arguments[0]) == program and set(words) <= set(arguments):
            found.append(int(folder.name))
    return found
