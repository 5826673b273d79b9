#!/usr/bin/env python3
"""Pulls by several runtimes in turns: see `images`, which prepares the node.

Each case starts from a store without its layers, and with nothing left to write back from the case before.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "lib"))
import registry  # noqa: E402
from figures import Samples, in_turns  # noqa: E402
from runtimes import RUNTIMES  # noqa: E402

BENCH = "registry.k8s.io/bench/"
# What is pulled one after the other within a case, each timed; what stands in one tuple is pulled at once.
CASES = {
    "large": {"218 MB in 5 layers": (BENCH + "toolchain:1",), "4 of 5 layers are there": (BENCH + "shared:1",)},
    "files": {"20,000 small files": (BENCH + "manyfiles:1",)},
    "layers": {"60 layers": (BENCH + "manylayers:1",)},
    "ten": {"ten images at once": tuple(f"{BENCH}tenth-{number}:1" for number in range(10))},
}


class Cri:
    """Pulls by a CRI runtime, and the memory of its daemon."""

    def __init__(self, name: str) -> None:
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

    def stop(self) -> None:
        self.runtime.stop()


class Tools:
    """skopeo to an OCI layout, umoci from it: no daemon, and layers one after the other."""

    def __init__(self) -> None:
        self.folder = pathlib.Path("/var/lib/tools")

    def pull(self, image: str) -> None:
        # Layouts are not made to be written by two at once; what an image shares with another is found in one layout.
        own = image.rsplit("/", 1)[1].split(":")[0]
        layout = self.folder / ("tenths" + own if own.startswith("tenth") else "layout")
        source = image.replace("registry.k8s.io", f"docker://{registry.ADDRESS}")
        self.folder.mkdir(parents=True, exist_ok=True)
        run("skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", source, f"oci:{layout}:{own}")
        run("umoci", "unpack", "--image", f"{layout}:{own}", self.folder / f"bundle-{own}")

    def clear(self) -> None:
        shutil.rmtree(self.folder)

    def forget_peak(self) -> None:
        """There is no daemon."""

    def peak(self) -> list[int]:
        return []

    def stop(self) -> None:
        """There is no daemon."""


PULLERS = {"containerd": lambda: Cri("containerd"), "skopeo+umoci": Tools, "corten": lambda: Cri("corten")}


def main() -> int:
    options = arguments()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    in_turns(options.runtimes, options.rounds, lambda name, _: measure(PULLERS[name](), options.cases), "images")
    return 0


def arguments() -> argparse.Namespace:
    words = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtimes", type=words, default=list(PULLERS))
    parser.add_argument("--cases", type=words, default=list(CASES))
    return parser.parse_args()


def measure(puller: Cri | Tools, cases: list[str]) -> Samples:
    """One run on one runtime, which is there for it alone."""
    found: Samples = {}
    try:
        for case in cases:
            os.sync()
            puller.forget_peak()
            for what, images in CASES[case].items():
                found[what] = [timed(puller, images)]
            found[f"bytes, peak of the daemon, {case}"] = puller.peak()
            puller.clear()
        return found
    finally:
        puller.stop()


def timed(puller: Cri | Tools, images: tuple[str, ...]) -> int:
    began = time.monotonic_ns()
    with ThreadPoolExecutor(len(images)) as threads:
        list(threads.map(puller.pull, images))
    return time.monotonic_ns() - began


def run(*words: str | pathlib.Path) -> None:
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


if __name__ == "__main__":
    sys.exit(main())
