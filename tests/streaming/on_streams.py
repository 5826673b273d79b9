"""What all cases share: a pod whose container serves pages and idles, and how a client is run."""

import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import leftovers
import pod
from runtimes import IN_RESERVE, METRICS, Runtime
from terminal import Terminal
from wait import until

TRANSPORTS = ("spdy", "websocket")
PORT = 8080
# Who connects there is reset: of what it says not all is read.
RESETTING = 8081
# Who connects there hears how many bytes it has said, once it has ended its direction.
COUNTING = 8082
PAGE = "a page\n"
LARGE = 200 << 20
# More than all buffers on the way hold.
SOME_MEGABYTES = 8 << 20
SHIMS = ("corten-shim", "containerd-shim-runc-v2")
SIGNALS = pathlib.Path(os.environ.get("CORTEN_NODE", "/nonexistent"), "signals")
# Serves pages, and ends when told to. /large is a sparse file. Not httpd's own listener: its queue is so short that of
# many at once some are lost.
SERVE = (f"mkdir /www; printf 'a page\\n' >/www/index.html; truncate -s {LARGE} /www/large;"
         f" tcpsvd -E -c 500 -b 500 0.0.0.0 {RESETTING} sh -c 'read -n 1 first' &"
         f" tcpsvd -E -c 500 -b 500 0.0.0.0 {COUNTING} wc -c &"
         f" exec tcpsvd -E -c 500 -b 500 0.0.0.0 {PORT} httpd -i -h /www")
# Answers each line, until its input ends.
ANSWER = "while read line; do echo got $line; done; echo over; sleep 1000"


class Pod(pod.Pod):
    """A pod of this tier; containers by name."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        super().__init__(runtime, SIGNALS.parent / name, name)

    def start(self, name: str, script: str, **more) -> str:
        config = {
            "image": {"image": leftovers.IMAGE}, "command": ["sh", "-c", script],
            "linux": {"security_context": {"namespace_options": {"pid": 1}}},
            "mounts": [{"host_path": str(SIGNALS), "container_path": "/signals"}], **more,
        }
        container = self.make(name, **config)
        self.runtime.crictl("start", container)
        return container

    def log(self, name: str) -> bytes:
        """What a container has written, as its log has it: whole lines."""
        lines = (self.folder / f"{name}.log").read_bytes().splitlines(keepends=True)
        return b"".join(line.split(b" ", 3)[3] for line in lines)


def over_each_transport(test):
    """Runs a test once for each transport. What fails over one is recorded with its name, and the next has its turn."""
    @functools.wraps(test)
    def over_all(self) -> None:
        for transport in self.transports():
            with self.subTest(transport=transport):
                test(self, transport)
    return over_all


class OnStreams(unittest.TestCase):
    """`run.py` sets the runtime; each class has a pod of its own."""

    runtime: Runtime
    maxDiff = None

    def transports(self) -> tuple[str, ...]:
        """Of a peer, what it has: containerd knows no v5 of WebSocket."""
        return TRANSPORTS if self.runtime.name == "corten" else TRANSPORTS[:1]

    @classmethod
    def setUpClass(cls):
        cls.pod = Pod(cls.runtime, cls.__name__.lower())
        cls.addClassCleanup(cls.pod.remove)
        cls.served = cls.pod.start("served", SERVE)
        until(lambda: cls.runtime.crictl("exec", "-s", cls.served, "wget", "-qO-", f"http://127.0.0.1:{PORT}/").strip() == PAGE.strip(),
              30, "the pod serves pages")

    def sized(self, terminal: Terminal, size: str) -> None:
        """The size comes a moment after the terminal, which until then has none: it is asked for until it is there."""
        def asked():
            terminal.type("stty size\n")
            return terminal.expect(r"\n(\d+ \d+|stty: [^\r\n]*)\r")[1] == size
        until(asked, 10, f"the terminal is {size}")

    def carries_http(self, port: int) -> None:
        """A forwarded port: many pages at once, and much at once."""
        with ThreadPoolExecutor(16) as clients:
            pages = clients.map(lambda _: fetch(port, "/"), range(200))
            self.assertEqual(set(pages), {PAGE.encode()})
            sizes = clients.map(lambda _: len(fetch(port, "/large")), range(3))
            self.assertEqual(set(sizes), {LARGE})

    def streams(self, verb: str, *words: str, **more) -> subprocess.CompletedProcess:
        """The Go client on the runtime's own URLs."""
        command = ["streams", *verb.split(), "--endpoint", self.runtime.endpoint, *words]
        return subprocess.run(command, capture_output=True, timeout=1200, check=False, **more)

    def tally(self, verb: str, *words: str) -> dict:
        """What the Go client counted; all must have gone well."""
        done = self.streams(verb, *words)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        tally = json.loads(done.stdout)
        self.assertEqual((tally["failed"], tally["failures"]), (0, []))
        return tally


def figure(name: str, **labels: str) -> int:
    """A counter of the daemon's; 0 where it does not tell of it."""
    with urllib.request.urlopen(METRICS, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    wanted = f"{name}{{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "} "
    return sum(int(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


class Held:
    """What the daemon holds, and what the shims of containers and pods do: descriptors, memory, processes."""

    def __init__(self, runtime: Runtime) -> None:
        daemon = pathlib.Path(f"/proc/{runtime.service.pid}")
        self.descriptors = descriptors(daemon)
        self.resident = kilobytes(daemon / "status", "VmRSS")
        shims = [folder for folder in pathlib.Path("/proc").glob("[0-9]*")
                 if program(folder) in SHIMS and not is_in_reserve(folder)]
        self.processes = len(shims)
        self.of_shims = sum(map(descriptors, shims))
        self.shims = sum(kilobytes(folder / "smaps_rollup", "Pss") for folder in shims)
        # The containers' own, what was run in them, and zombies of either.
        parents = {int(folder.name) for folder in shims}
        self.children = sum(parent(folder) in parents for folder in pathlib.Path("/proc").glob("[0-9]*"))

    def no_more_than(self, other: "Held") -> bool:
        """But for memory, of which an allocator keeps some."""
        return all(getattr(self, what) <= getattr(other, what) for what in ("descriptors", "processes", "of_shims", "children"))

    def __repr__(self) -> str:
        return (f"{self.descriptors} descriptors and {self.resident} kB of the daemon's, {self.processes} shims with"
                f" {self.of_shims} descriptors, {self.shims} kB (PSS) and {self.children} processes below them")


def descriptors(folder: pathlib.Path) -> int:
    try:
        return len(list((folder / "fd").iterdir()))
    except OSError:
        return 0


def kilobytes(path: pathlib.Path, what: str) -> int:
    """A line of a process's; 0 where it is gone."""
    try:
        return int(re.search(rf"^{what}:\s+(\d+)", path.read_text(), re.MULTILINE)[1])
    except OSError:
        return 0


def parent(folder: pathlib.Path) -> int:
    return kilobytes(folder / "status", "PPid")


def program(folder: pathlib.Path) -> str:
    try:
        return os.path.basename(os.readlink(folder / "exe"))
    except OSError:
        return ""


def in_reserve() -> set[str]:
    """The kinds of what the daemon has started ahead of a request."""
    return {arguments(folder)[1] for folder in pathlib.Path("/proc").glob("[0-9]*") if is_in_reserve(folder)}


def is_in_reserve(folder: pathlib.Path) -> bool:
    return not IN_RESERVE.isdisjoint(arguments(folder))


def arguments(folder: pathlib.Path) -> list[str]:
    try:
        return (folder / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def fetch(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
        return answer.read()


def runs(mark: str) -> bool:
    """Whether a process of a container has this among its words. Clients have it, too."""
    folders = pathlib.Path("/proc").glob("[0-9]*")
    return any(mark in words and os.path.basename(words[0]) not in ("crictl", "streams") for words in map(arguments, folders))


def noise(path: pathlib.Path, size: int) -> str:
    """Fills a file with random bytes; gives their digest."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            part = os.urandom(1 << 20)
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def digest_of(stream) -> str:
    digest = hashlib.sha256()
    while part := stream.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()
