#!/usr/bin/env python3
"""Images after a crash: the daemon killed at random points of a pull, and the power cut at random points of its writes.

After each the image is either absent or whole, by `corten image check` and by a look of our own; the next pull completes;
when the image is removed nothing is left. An image that was on the disk for good before the cut is there after it. The
power is cut in a repair too: then a layer is as broken as it was, whole or absent, and the next repair mends it.
To be run in a node of its own (tests/tiers/images does).

    run.py [--full] [--points N] [--seed N] [--only kill|cut|repair] [--no-sync]

--no-sync: the daemon whose writes are recorded has a kernel whose syncfs does nothing (strace says so), and marks as
durable what is not: then the cases of the cut have to fail. That is the proof that they can.
"""

import argparse
import collections
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from image import Layer, Registry, differences, tree_of  # noqa: E402
from node import Daemon, new_boot  # noqa: E402
from recording import Loop, Neighbour, Recording  # noqa: E402
from results import record  # noqa: E402
from wait import until  # noqa: E402

SHORT, FULL = 20, 200
DISK_SIZE = "192M"
#: A kill comes at most so many pulls after the pull has begun.
LATEST = 1.4
#: Runs a daemon whose syncfs does nothing.
NO_SYNC = ("strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "inject=syncfs:retval=0", "-e", "trace=syncfs")
Verdicts = collections.Counter


class Case:
    """What all cases share: two images that share a layer, and a place for what they need."""

    def __init__(self, scratch: str, seed: int, port: int = 0) -> None:
        self.scratch, self.dice = scratch, random.Random(seed)
        base, top, other = Layer("base", 300, 3, self.dice), Layer("top", 100, 1, self.dice), Layer("other", 150, 1, self.dice)
        self.images = {"1": [base, top], "2": [base, other]}
        self.registry = Registry(port)
        for tag, layers in self.images.items():
            self.registry.push(tag, layers)
            self.registry.push(tag + "-again", layers)

    def path(self, name: str) -> str:
        return os.path.join(self.scratch, name)

    def is_listed(self, tag: str, listed: list[str]) -> bool:
        return bool({self.registry.name(tag), self.registry.name(tag + "-again")} & set(listed))

    def verdict(self, daemon: Daemon) -> str:
        """`absent` or `whole`; anything else is a failure. The next pull completes."""
        listed = daemon.images()
        wrong = [f"{finding['path'] or finding['digest']}: {finding['detail']}" for finding in daemon.findings()]
        for tag, layers in self.images.items():
            if self.is_listed(tag, listed):
                wrong += differences(daemon.root, layers)
        assert not wrong, f"listed and not whole: {wrong[:5]} ({len(wrong)} in all)"
        for tag, layers in self.images.items():
            daemon.pull(self.registry.name(tag))
            wrong = differences(daemon.root, layers)
            assert not wrong, f"not whole after the next pull: {wrong[:5]}"
        findings = daemon.findings()
        assert not findings, f"after the next pull: {findings[:5]}"
        daemon.remove_all()
        return "whole" if listed else "absent"


def kills(case: Case, points: int) -> str:
    """`kill -9` at random points of a pull."""
    root, state = case.path("kill/root"), case.path("kill/state")
    daemon = Daemon(root, state, "killed")
    name = case.registry.name("1")
    daemon.pull(name)
    daemon.remove_all()
    takes = daemon.pull(name)
    daemon.remove_all()
    verdicts = Verdicts()
    for _ in range(points):
        asking = daemon.begin_pull(name)
        time.sleep(case.dice.uniform(0, LATEST * takes))
        daemon.kill()
        asking.wait()
        case.registry.asked.clear()
        daemon = Daemon(root, state, "killed")
        verdicts[case.verdict(daemon)] += 1
    daemon.kill()
    return f"{points} kills within {LATEST * takes:.2f} s, of which a pull takes {takes:.2f}: {dict(verdicts)}"


class Cuts:
    """Power cuts at random points of a recording; each is another boot."""

    def __init__(self, case: Case, name: str) -> None:
        self.case, self.folder = case, case.path(name)
        os.makedirs(self.folder)
        base = self.path("base")
        subprocess.run(["truncate", "--size", DISK_SIZE, base], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", base], check=True)
        self.recording = Recording(self.folder, base)
        self.boots = 0
        self.boot()

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def boot(self) -> None:
        new_boot(self.case.path("boot_id"), self.boots)
        self.boots += 1

    def daemon(self, disk: Loop, name: str, under: tuple[str, ...] = ()) -> Daemon:
        return Daemon(disk.mountpoint + "/root", self.path("state"), name, under)

    def make(self, points: int, verdict) -> str:
        """Cuts; `verdict(daemon, promised)` says what there is afterwards, or fails."""
        recording, verdicts, failures = self.recording, Verdicts(), []
        for _ in range(points):
            cut = self.case.dice.randrange(recording.first, len(recording.events) + 1)
            recording.replay(self.path("replayed"), cut, self.case.dice)
            self.boot()
            try:
                verdicts[self._after(verdict, recording.promised(cut))] += 1
            except AssertionError as error:
                failures.append(f"cut after {cut} of {len(recording.events)}: {error}")
        assert not failures, f"{len(failures)} of {points} cuts: {failures[:3]}"
        return f"{points} cuts among {recording}: {dict(verdicts)}"

    def _after(self, verdict, promised: frozenset[str]) -> str:
        with Loop(self.path("replayed"), self.path("disk")) as loop:
            daemon = self.daemon(loop, "cut")
            try:
                return verdict(daemon, promised)
            finally:
                daemon.kill()


def pull_twice(case: Case, daemon: Daemon, tag: str) -> None:
    """The second name replaces the image's record, which ext4 therefore writes at once: the record is on the disk before
    the layers are."""
    daemon.pull(case.registry.name(tag))
    daemon.pull(case.registry.name(tag + "-again"))
    until(daemon.durable, 30, "the layers are durable")


def cuts(case: Case, points: int, no_sync: bool) -> str:
    """Two images are pulled, one is removed and pulled again."""
    made = Cuts(case, "cut")
    with made.recording.disk() as disk:
        daemon = made.daemon(disk, "recorded", NO_SYNC if no_sync else ())

        def for_good(*tags: str) -> None:
            # Not where the daemon's own sync is to be missed.
            if not no_sync:
                subprocess.run(["sync", "--file-system", disk.mountpoint], check=True)
                made.recording.promise(set(tags))

        with Neighbour(disk.mountpoint + "/database"):
            pull_twice(case, daemon, "1")
            for_good("1")
            pull_twice(case, daemon, "2")
            for_good("1", "2")
            for_good("2")
            daemon.ask("remove", case.registry.name("1"))
            daemon.pull(case.registry.name("1"))
            until(daemon.durable, 30, "the layers are durable")
            for_good("1", "2")
        daemon.kill()

    def verdict(daemon: Daemon, promised: frozenset[str]) -> str:
        missing = [tag for tag in promised if not case.is_listed(tag, daemon.images())]
        assert not missing, f"gone although on the disk for good: {missing}"
        return ", promised ".join([case.verdict(daemon), *["there"][:len(promised)]])

    return made.make(points, verdict)


def repairs(case: Case, points: int) -> str:
    """A file of the layer that two images share is broken, and `image check --repair` brings it anew."""
    made = Cuts(case, "repair")
    base, path = case.images["1"][0], "base/large-0"
    with made.recording.disk() as disk:
        daemon = made.daemon(disk, "recorded")
        with Neighbour(disk.mountpoint + "/database"):
            for tag in case.images:
                pull_twice(case, daemon, tag)
            break_file(os.path.join(tree_of(daemon.root, base), path))
            subprocess.run(["sync", "--file-system", disk.mountpoint], check=True)
            made.recording.begin()
            mended = daemon.ask("check", "--repair")
            assert mended.returncode == 0, mended.stderr
            until(daemon.durable, 30, "the layers are durable")
            subprocess.run(["sync", "--file-system", disk.mountpoint], check=True)
            made.recording.promise(set(case.images))
        daemon.kill()

    def verdict(daemon: Daemon, promised: frozenset[str]) -> str:
        findings, listed = daemon.findings(), daemon.images()
        other = [finding for finding in findings if finding["path"] != path]
        assert not other, f"broken by the cut: {other[:5]}"
        missing = [tag for tag in case.images if not case.is_listed(tag, listed)]
        broken = findings or missing
        assert not (promised and broken), f"not repaired for good: {broken}"
        mended = daemon.ask("check", "--repair")
        assert mended.returncode == 0, f"the next repair: {mended.stdout} {mended.stderr}"
        for tag, layers in case.images.items():
            assert case.is_listed(tag, daemon.images()), f"{tag} is not there after the next repair"
            wrong = differences(daemon.root, layers)
            assert not wrong, f"not whole after the next repair: {wrong[:5]}"
        daemon.remove_all()
        return "as broken as before" if findings else "absent" if missing else "whole"

    return made.make(points, verdict)


def break_file(path: str) -> None:
    """Other bytes in the middle of it, as a disk may give."""
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\0" * 512)


def run(name: str, scenario) -> bool:
    begun = time.monotonic()
    try:
        figures = scenario()
    except AssertionError as error:
        record("fail", name, str(error))
        print(f"{name}: FAILED: {error}", flush=True)
        return False
    record("pass", name)
    print(f"{name}: {figures}; {time.monotonic() - begun:.0f} s", flush=True)
    return True


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--full", action="store_true", help=f"{FULL} points instead of {SHORT}")
    options.add_argument("--points", type=int)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--only", choices=("kill", "cut", "repair"))
    options.add_argument("--no-sync", action="store_true")
    asked = options.parse_args()
    points = asked.points or (FULL if asked.full else SHORT)
    print(f"seed {asked.seed}", flush=True)
    case = Case(os.path.join(os.environ["CORTEN_NODE"], "crash"), asked.seed)
    scenarios = {
        "kill": ("crash: kill -9 of the daemon at random points of a pull", lambda: kills(case, points)),
        "cut": ("crash: power cut at random points of the disk's writes", lambda: cuts(case, points, asked.no_sync)),
        "repair": ("crash: power cut at random points of a repair", lambda: repairs(case, points // 2)),
    }
    chosen = [asked.only] if asked.only else list(scenarios)
    done = [run(*scenarios[name]) for name in chosen]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
