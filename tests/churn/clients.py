"""Clients that make and remove pods through crictl, as kubelets do: no answer, and they ask again."""

import json
import pathlib
import subprocess
import threading
import time

import leftovers

# What is said of a daemon that is not there, or went away during the call.
NO_ANSWER = ("Unavailable", "connection refused", "no such file or directory", "EOF", "error reading from server",
             "transport", "connection error", "validate service connection")
PATIENCE = 60
OBEYS = "trap 'exit 0' TERM; sleep 1000 & wait"


class Ledger:
    """What was acknowledged and not asked to go: all of it must be listed, whatever happens to the daemon."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self.wrongs: list[str] = []
        self.lives = 0

    def add(self, *ids: str) -> None:
        with self._lock:
            self._held |= set(ids)

    def drop(self, *ids: str) -> None:
        with self._lock:
            self._held -= set(ids)

    def held(self) -> set[str]:
        with self._lock:
            return set(self._held)

    def wrong(self, what: str) -> None:
        with self._lock:
            self.wrongs.append(what)
        print("wrong:", what, flush=True)

    def lived(self) -> None:
        with self._lock:
            self.lives += 1

    def compare(self, crictl) -> None:
        """What was held before and after the lists were asked for, and is not in them, is lost."""
        before = self.held()
        listed = set(crictl("pods", "-q", "--no-trunc").split()) | set(crictl("ps", "-a", "-q", "--no-trunc").split())
        for lost in (before - listed) & self.held():
            self.wrong(f"{lost} was acknowledged and is not listed")


class Client(threading.Thread):
    """Makes a pod with a container, looks at it, and removes it, again and again until told to end."""

    def __init__(self, number: int, folder: pathlib.Path, ledger: Ledger, over: threading.Event) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.folder = folder / self.name
        self.folder.mkdir(parents=True)
        self.ledger, self.over = ledger, over

    def run(self) -> None:
        life = 0
        while not self.over.is_set():
            life += 1
            try:
                self.live(f"{self.name}-{life}")
                self.ledger.lived()
            except Exception as error:  # noqa: BLE001  (one wrong is told, and the next pod is tried)
                self.ledger.wrong(f"{self.name}-{life}: {error}")

    def live(self, name: str) -> None:
        pod, container = self.configs(name)
        sandbox = ask("runp", pod)
        self.ledger.add(sandbox)
        made = ask("create", "--no-pull", sandbox, container, pod)
        self.ledger.add(made)
        ask("start", made, fine="runs already")
        state = json.loads(ask("inspect", made))["status"]["state"]
        if state != "CONTAINER_RUNNING":
            raise AssertionError(f"{made} is {state} after it was started")
        ask("stop", "--timeout", "5", made)
        self.ledger.drop(made)
        ask("rm", made, fine="not found|no container")
        self.ledger.drop(sandbox)
        ask("stopp", sandbox)
        ask("rmp", sandbox, fine="not found|no sandbox")

    def configs(self, name: str) -> tuple[str, str]:
        """Files of its own, written anew: nothing grows."""
        pod, container = self.folder / "pod.json", self.folder / "container.json"
        pod.write_text(json.dumps({
            "metadata": {"name": name, "namespace": "churn", "uid": name, "attempt": 1},
            "hostname": "churn", "log_directory": str(self.folder), "linux": {},
        }))
        container.write_text(json.dumps({
            "metadata": {"name": "c"}, "image": {"image": leftovers.IMAGE}, "command": ["sh", "-c", OBEYS],
            "log_path": "c.log",
            "linux": {"security_context": {"namespace_options": {"pid": 1}}},
        }))
        return str(pod), str(container)


def ask(*words: str, fine: str = "") -> str:
    """Asks until there is an answer. An error whose text has one of the `fine` words is as good as success where the
    request was asked before: the first one did it, and its answer was lost."""
    deadline, asked = time.monotonic() + PATIENCE, 0
    while True:
        done = subprocess.run(["crictl", *words], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        error = done.stderr.strip()
        if asked and fine and any(word.lower() in error.lower() for word in fine.split("|")):
            return ""
        if time.monotonic() > deadline or not any(sign in error for sign in NO_ANSWER):
            raise AssertionError(f"crictl {words[0]}: {error}")
        asked += 1
        time.sleep(0.05)
