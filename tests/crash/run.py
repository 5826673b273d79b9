#!/usr/bin/env python3
"""Images after a crash: the daemon killed at random points of a pull, and the power cut at random points of its writes.

After each the image is either absent or whole, by `corten image check` and by a look of our own; the next pull completes;
when the image is removed nothing is left. To be run in a node of its own (tests/tiers/images does).

    run.py [--full] [--points N] [--seed N] [--only kill|cut] [--no-sync]

--no-sync: the daemon whose writes are recorded has a kernel whose syncfs does nothing (strace says so), and marks as
durable what is not: then the cases of the cut have to fail. That is the proof that they can.
"""

import argparse
import collections
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import cutdisk
from image import Layer, Registry, differences
from node import Daemon, new_boot

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

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

    def __init__(self, scratch: str, seed: int) -> None:
        self.scratch, self.dice = scratch, random.Random(seed)
        base, top, other = Layer("base", 300, 3, self.dice), Layer("top", 100, 1, self.dice), Layer("other", 150, 1, self.dice)
        self.images = {"1": [base, top], "2": [base, other]}
        self.registry = Registry()
        for tag, layers in self.images.items():
            self.registry.push(tag, layers)
            self.registry.push(tag + "-again", layers)

    def path(self, name: str) -> str:
        return os.path.join(self.scratch, name)

    def verdict(self, daemon: Daemon) -> str:
        """`absent` or `whole`; anything else is a failure. The next pull completes."""
        listed = daemon.images()
        wrong = [f"{finding['path'] or finding['digest']}: {finding['detail']}" for finding in daemon.findings()]
        for tag, layers in self.images.items():
            if {self.registry.name(tag), self.registry.name(tag + "-again")} & set(listed):
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


class Loop:
    """A file system on a file, mounted."""

    def __init__(self, file: str, mountpoint: str) -> None:
        self.mountpoint = mountpoint
        os.makedirs(mountpoint, exist_ok=True)
        device = subprocess.run(["losetup", "--find", "--show", file], check=True, capture_output=True, text=True).stdout.strip()
        try:
            subprocess.run(["mount", "-t", "ext4", device, mountpoint], check=True)
        finally:
            # The device goes with its mount.
            subprocess.run(["losetup", "--detach", device], check=True)

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *_: object) -> None:
        until(lambda: subprocess.run(["umount", self.mountpoint], check=False).returncode == 0, 20, "the disk is let go")


class Neighbour:
    """Somebody else on the same disk who syncs a file of his again and again, as a database does. Each of his syncs
    writes the file system's journal: names of files whose content is still in memory come to the disk with it."""

    def __init__(self, path: str) -> None:
        self.path, self.ended = path, threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        with open(self.path, "wb", buffering=0) as file:
            while not self.ended.wait(0.01):
                file.write(b"x" * 100)
                os.fsync(file.fileno())

    def __enter__(self) -> "Neighbour":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


def recorded(case: Case, base: str, under: tuple[str, ...]) -> list:
    """What the disk was told while two images were pulled, one was removed and one pulled again."""
    work, log, folder = case.path("cut/work"), case.path("cut/log"), case.path("cut/fuse")
    shutil.copy(base, work)
    os.makedirs(folder)
    server = subprocess.Popen([sys.executable, cutdisk.__file__, folder, work, log])
    disk = os.path.join(folder, "disk")
    until(lambda: os.path.exists(disk), 20, "the recording disk is there")
    with Loop(disk, case.path("cut/disk")) as loop:
        daemon = Daemon(loop.mountpoint + "/root", case.path("cut/state"), "recorded", under)
        with Neighbour(loop.mountpoint + "/database"):
            for tag in ("1", "2"):
                daemon.pull(case.registry.name(tag))
                # The second name replaces the image's record, which ext4 therefore writes at once: the record is on
                # the disk before the layers are.
                daemon.pull(case.registry.name(tag + "-again"))
                until(daemon.durable, 30, "the layers are durable")
            daemon.ask("remove", case.registry.name("1"))
            daemon.pull(case.registry.name("1"))
            until(daemon.durable, 30, "the layers are durable")
        daemon.kill()
    subprocess.run(["umount", folder], check=True)
    server.wait(20)
    return cutdisk.writes(log)


def cuts(case: Case, points: int, no_sync: bool) -> str:
    """The power goes at random points of the disk's writes."""
    os.makedirs(case.path("cut"))
    base, disk = case.path("cut/base"), case.path("cut/replayed")
    subprocess.run(["truncate", "--size", DISK_SIZE, base], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", base], check=True)
    boot = case.path("cut/boot_id")
    new_boot(boot, 0)
    events = recorded(case, base, NO_SYNC if no_sync else ())
    verdicts, failures = Verdicts(), []
    for number in range(1, points + 1):
        cut = case.dice.randrange(len(events) + 1)
        shutil.copy(base, disk)
        cutdisk.replay(disk, events, cut, case.dice)
        new_boot(boot, number)
        try:
            verdicts[after_cut(case, disk)] += 1
        except AssertionError as error:
            failures.append(f"cut after {cut} of {len(events)}: {error}")
    assert not failures, f"{len(failures)} of {points} cuts: {failures[:3]}"
    flushes = sum(event is None for event in events)
    return f"{points} cuts among {len(events) - flushes} writes and {flushes} flushes: {dict(verdicts)}"


def after_cut(case: Case, disk: str) -> str:
    with Loop(disk, case.path("cut/disk")) as loop:
        daemon = Daemon(loop.mountpoint + "/root", case.path("cut/state"), "cut")
        try:
            return case.verdict(daemon)
        finally:
            daemon.kill()


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
    options.add_argument("--only", choices=("kill", "cut"))
    options.add_argument("--no-sync", action="store_true")
    asked = options.parse_args()
    points = asked.points or (FULL if asked.full else SHORT)
    print(f"seed {asked.seed}", flush=True)
    case = Case(os.path.join(os.environ["CORTEN_NODE"], "crash"), asked.seed)
    scenarios = {
        "kill": ("crash: kill -9 of the daemon at random points of a pull", lambda: kills(case, points)),
        "cut": ("crash: power cut at random points of the disk's writes", lambda: cuts(case, points, asked.no_sync)),
    }
    chosen = [asked.only] if asked.only else list(scenarios)
    done = [run(*scenarios[name]) for name in chosen]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
