#!/usr/bin/env python3
"""Pulls by several runtimes in turns: see `images`, which prepares the node.

Each turn has a file system of its own, made anew, so that nobody pays for what somebody else wrote or deleted. Each case
starts from a store without its layers, and with nothing left to delete or to write back from the case before.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "lib"))
import registry  # noqa: E402
from figures import Samples, in_turns  # noqa: E402
from peers import RUNTIMES  # noqa: E402

BENCH = "registry.k8s.io/bench/"
# Of the file that the file system is in, which has no more than what is written to it.
DISK_BYTES = 6_000_000_000
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# What is pulled one after the other within a case, each timed; what stands in one tuple is pulled at once. The one of many
# files is the last: an ext4 may pass over inodes that were deleted a minute ago, which costs whoever makes files then.
CASES = {
    "large": {"218 MB in 5 layers": (BENCH + "toolchain:1",), "4 of 5 layers are there": (BENCH + "shared:1",)},
    "layers": {"60 layers": (BENCH + "manylayers:1",)},
    "ten": {"ten images at once": tuple(f"{BENCH}tenth-{number}:1" for number in range(10))},
    "files": {"20,000 small files": (BENCH + "manyfiles:1",)},
}


# What this one takes on the disk is looked at, too.
WEIGHED = "218 MB in 5 layers"
# The case that is no pull: a list of so many images, so often, after a rest as between a kubelet's calls.
LIST, LISTED, LISTS, REST = "list", 1000, 100, "20ms"


class Cri:
    """Pulls by a CRI runtime, and the memory of its daemon."""

    def __init__(self, name: str) -> None:
        self.folder = pathlib.Path("/var/lib", name)
        self.disk = Disk(self.folder)
        self.runtime = RUNTIMES[name]()

    def pull(self, image: str) -> None:
        self.runtime.crictl("pull", image)

    def clear(self) -> None:
        self.runtime.crictl("rmi", "--all")

    def forget_peak(self) -> None:
        pathlib.Path(f"/proc/{self.runtime.service.pid}/clear_refs").write_text("5")

    def peak(self) -> list[int]:
        text = pathlib.Path(f"/proc/{self.runtime.service.pid}/status").read_text()
        return [int(re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)[1]) * 1024]

    def listing(self) -> Samples:
        """ListImages of many images. Peers have none to list: their own tools to import them are not built here."""
        if self.runtime.name != "corten":
            return {}
        archive = pathlib.Path("/var/lib/many.tar")
        write_archive(archive, LISTED)
        run(pathlib.Path(os.environ["CORTEN_DIST"], "corten"), "image", "import", archive)
        command = ["loop", "images", "--endpoint", self.runtime.endpoint, "--count", str(LISTS), "--pause", REST]
        done = subprocess.run(command, capture_output=True, check=True)
        assert set(done.stderr.splitlines()) == {b"%d images" % LISTED}, done.stderr[-200:]
        return {f"ListImages, {LISTED:,} images": json.loads(done.stdout)["ListImages"]}

    def processor_time(self) -> int:
        """Of the daemon and of programs that it has run, ns."""
        fields = pathlib.Path(f"/proc/{self.runtime.service.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) * TICK_NS

    def stop(self) -> None:
        self.runtime.stop()
        self.disk.close()


class Tools:
    """skopeo to an OCI layout, umoci from it: no daemon, and layers one after the other."""

    def __init__(self) -> None:
        self.folder = pathlib.Path("/var/lib/tools")
        self.disk = Disk(self.folder)

    def pull(self, image: str) -> None:
        # Layouts are not made to be written by two at once; what an image shares with another is found in one layout.
        own = image.rsplit("/", 1)[1].split(":")[0]
        layout = self.folder / ("tenths" + own if own.startswith("tenth") else "layout")
        source = image.replace("registry.k8s.io", f"docker://{registry.ADDRESS}")
        run("skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", source, f"oci:{layout}:{own}")
        run("umoci", "unpack", "--image", f"{layout}:{own}", self.folder / f"bundle-{own}")

    def clear(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path)

    def forget_peak(self) -> None:
        """There is no daemon."""

    def peak(self) -> list[int]:
        return []

    def listing(self) -> Samples:
        return {}

    def processor_time(self) -> int:
        """Of all programs that have ended, ns."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return int((used.ru_utime + used.ru_stime) * 1e9)

    def stop(self) -> None:
        self.disk.close()


class Disk:
    """A new ext4 at `folder`, as nodes have it: in a file, by a loop device that writes past the page cache."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.file = pathlib.Path(os.environ["CORTEN_NODE"], "disk")
        with open(self.file, "wb") as file:
            file.truncate(DISK_BYTES)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.file)
        folder.mkdir(parents=True, exist_ok=True)
        device = output("losetup", "--find", "--show", "--direct-io=on", self.file)
        run("mount", device, folder)
        # It goes with its mount.
        run("losetup", "--detach", device)

    def close(self) -> None:
        run("umount", "--recursive", self.folder)
        self.file.unlink()


PULLERS = {
    "containerd": lambda: Cri("containerd"), "cri-o": lambda: Cri("cri-o"), "skopeo+umoci": Tools,
    "corten": lambda: Cri("corten"),
}


def main() -> int:
    options = arguments()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    in_turns(options.runtimes, options.rounds, lambda name, _: measure(PULLERS[name](), options.cases), "images")
    return 0


def arguments() -> argparse.Namespace:
    words = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtimes", type=words, default=["containerd", "skopeo+umoci", "corten"])
    parser.add_argument("--cases", type=words, default=[*CASES, LIST])
    return parser.parse_args()


def measure(puller: Cri | Tools, cases: list[str]) -> Samples:
    """One run on one runtime, which is there for it alone."""
    found: Samples = {}
    try:
        for case in cases:
            await_still(puller.folder)
            if case == LIST:
                found.update(puller.listing())
                continue
            puller.forget_peak()
            before = disk_used(puller.folder)
            for what, images in CASES[case].items():
                used = puller.processor_time()
                found[what] = [timed(puller, images)]
                found[f"{what}, processor time"] = [puller.processor_time() - used]
                if what == WEIGHED:
                    await_still(puller.folder)
                    found["bytes on the disk, large"] = [disk_used(puller.folder) - before]
            found[f"bytes, peak of the daemon, {case}"] = puller.peak()
            puller.clear()
        return found
    finally:
        puller.stop()


def write_archive(path: pathlib.Path, images: int) -> None:
    """As `docker save` writes images that share their one layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        add(tar, "file", b"content")
    diff_id = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = lambda number: {"config": {"Labels": {"number": str(number)}}, "rootfs": {"diff_ids": [diff_id]}}  # noqa: E731
    named = lambda number: f"registry.k8s.io/bench/listed-{number}:1"  # noqa: E731
    with tarfile.open(path, "w") as tar:
        add(tar, "layer.tar", layer.getvalue())
        for number in range(images):
            add(tar, f"{number}.json", json.dumps(config(number)).encode())
        entries = [{"Config": f"{n}.json", "RepoTags": [named(n)], "Layers": ["layer.tar"]} for n in range(images)]
        add(tar, "manifest.json", json.dumps(entries).encode())


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def await_still(folder: pathlib.Path) -> None:
    """Awaits the end of what is deleted in the background, and of what is written back."""
    free, before = os.statvfs(folder).f_ffree, -1
    while free > before:
        time.sleep(0.3)
        free, before = os.statvfs(folder).f_ffree, free
    os.sync()


def disk_used(folder: pathlib.Path) -> int:
    now = os.statvfs(folder)
    return (now.f_blocks - now.f_bfree) * now.f_frsize


def timed(puller: Cri | Tools, images: tuple[str, ...]) -> int:
    began = time.monotonic_ns()
    with ThreadPoolExecutor(len(images)) as threads:
        list(threads.map(puller.pull, images))
    return time.monotonic_ns() - began


def run(*words: str | pathlib.Path) -> None:
    output(*words)


def output(*words: str | pathlib.Path) -> str:
    words = [str(word) for word in words]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
