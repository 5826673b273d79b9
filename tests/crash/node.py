"""A daemon with a root of its own, what a person asks of it, and what is on its disk."""

import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from service import Service  # noqa: E402
from wait import until  # noqa: E402

CORTEN = os.path.join(os.environ["CORTEN_DIST"], "corten")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: For one answer of the daemon: a hundred times what it takes on an idle host.
LIMIT = 60


class Daemon:
    """`corten serve` on this root, with a state of its own."""

    def __init__(self, root: str, state: str, name: str, under: tuple[str, ...] = ()) -> None:
        self.root, self.config = root, os.path.join(state, "corten.toml")
        os.makedirs(state, exist_ok=True)
        with open(self.config, "w", encoding="utf-8") as config:
            config.write(f'root = "{root}"\nstate = "{state}/run"\nendpoint = "{state}/corten.sock"\n')
        self.service = Service(name, [*under, CORTEN, "serve", "--config", self.config])
        until(self.answers, LIMIT, "the daemon answers")

    def answers(self) -> bool:
        assert self.service.running(), self.service.tail()
        return self.ask("list").returncode == 0

    def ask(self, *words: str) -> subprocess.CompletedProcess:
        command = [CORTEN, "image", *words, "--config", self.config, "--output", "json"]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)

    def begin_pull(self, image: str) -> subprocess.Popen:
        command = [CORTEN, "image", "pull", image, "--config", self.config]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def pull(self, image: str) -> float:
        """Pulls; gives the seconds that it took."""
        begun = time.monotonic()
        pulled = self.ask("pull", image)
        assert pulled.returncode == 0, pulled.stderr
        return time.monotonic() - begun

    def images(self) -> list[str]:
        listed = self.ask("list")
        assert listed.returncode == 0, listed.stderr
        return [tag for image in json.loads(listed.stdout) for tag in image["tags"]]

    def findings(self) -> list[dict]:
        """What `corten image check` finds in images that are listed; that one is missing is no fault after a crash."""
        checked = self.ask("check")
        lines = [json.loads(line) for line in checked.stdout.splitlines()]
        assert lines, checked.stderr
        return [line for line in lines if "fault" in line and line["digest"] and line["fault"] != "orphan"]

    def remove_all(self) -> None:
        while images := self.images():
            removed = self.ask("remove", images[0])
            assert removed.returncode == 0, removed.stderr
        until(lambda: not self.left(), LIMIT, f"nothing is left: {self.left()}")

    def left(self) -> list[str]:
        """What is on the disk although no image is there."""
        found = []
        for folder in ("layers", "layers/.trash", "images/blobs", "images/records", "images/partial", "images/pulls", "trash"):
            path = os.path.join(self.root, folder)
            names = os.listdir(path) if os.path.isdir(path) else []
            found += [f"{folder}/{name}" for name in names if name not in (".trash", ".empty", ".points")]
        return found

    def durable(self) -> bool:
        """Every layer's record says that it is on the disk."""
        folder = os.path.join(self.root, "layers")
        records = [os.path.join(folder, name, "record.json") for name in os.listdir(folder) if not name.startswith(".")]
        return all(json.load(open(record, encoding="utf-8"))["durable"] for record in records)

    def kill(self) -> None:
        os.killpg(self.service.pid, signal.SIGKILL)
        self.service.kill()


def new_boot(file: str, number: int) -> None:
    """From now on the kernel says that this is another boot. `file` is written and bound over what says so."""
    with open(file, "w", encoding="ascii") as text:
        text.write(f"00000000-0000-4000-8000-{number:012x}\n")
    with open(BOOT_ID, encoding="ascii") as bound:
        is_bound = bound.read().startswith("00000000-0000-4000-8000")
    if not is_bound:
        subprocess.run(["mount", "--bind", file, BOOT_ID], check=True)
