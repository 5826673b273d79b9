"""A disk that is recorded while a daemon works on it, and what has to be on it after each moment."""

import bisect
import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator

import cutdisk
from wait import until


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


class Recording:
    """What a disk was told. Cuts are counted in events: writes and flushes."""

    def __init__(self, folder: str, base: str) -> None:
        self.folder, self.base, self.log = folder, base, os.path.join(folder, "log")
        self.events: list = []
        self.first = 0
        self._promises: list[tuple[int, frozenset[str]]] = [(0, frozenset())]
        self._begun = 0

    @contextlib.contextmanager
    def disk(self) -> Iterator[Loop]:
        """The disk, mounted, while it is recorded."""
        fuse, work = os.path.join(self.folder, "fuse"), os.path.join(self.folder, "work")
        os.makedirs(fuse)
        shutil.copy(self.base, work)
        server = subprocess.Popen([sys.executable, cutdisk.__file__, fuse, work, self.log])
        disk = os.path.join(fuse, "disk")
        until(lambda: os.path.exists(disk), 20, "the recording disk is there")
        with Loop(disk, os.path.join(self.folder, "disk")) as loop:
            yield loop
        subprocess.run(["umount", fuse], check=True)
        server.wait(20)
        self.events = cutdisk.writes(self.log)
        sizes = (cutdisk.MARK.size + (len(event[1]) if event else 0) for event in self.events)
        self._ends = list(itertools.accumulate(sizes, initial=0))
        self.first = bisect.bisect_left(self._ends, self._begun)

    def begin(self) -> None:
        """No cut is made before this."""
        self._begun = os.path.getsize(self.log)

    def promise(self, images: set[str]) -> None:
        """After a cut from now on, these are there. Before something is removed it is promised no more."""
        self._promises.append((os.path.getsize(self.log), frozenset(images)))

    def promised(self, cut: int) -> frozenset[str]:
        """What has to be there when the power goes after so many events."""
        return [images for told, images in self._promises if told <= self._ends[cut]][-1]

    def replay(self, disk: str, cut: int, dice: random.Random) -> None:
        """Makes the file `disk` what the disk holds after the cut."""
        shutil.copy(self.base, disk)
        cutdisk.replay(disk, self.events, cut, dice)

    def __str__(self) -> str:
        flushes = sum(event is None for event in self.events)
        return f"{len(self.events) - self.first} events ({len(self.events)} with what came before, {flushes} of them flushes)"
