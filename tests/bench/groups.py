"""What is measured together, on whom, and how often."""

import argparse
import itertools
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import calls
import critest_benchmark
import disk
import images
import streams
from figures import Samples, add
from on_streams import SIGNALS
from peers import RUNTIMES
from rows import BUNDLED, HOST, Sizes

# Runs of one suite write to folders of their own.
RUN = itertools.count()
PEERS = ("containerd", "containerd+crun", "cri-o")
CONTAINERD, CRUN, CRIO = PEERS


@dataclass(frozen=True)
class Group:
    """`rounds`: at the most, for what takes minutes."""

    measure: Callable[[str, Sizes], Samples]
    runtimes: tuple[str, ...]
    rounds: int = 1_000


def pulled(name: str, _: Sizes) -> Samples:
    """What the large image takes on the disk is told as so many thousandths of what its files take."""
    found = images.measure(images.PULLERS[name](), [*images.CASES, images.LIST])
    on_disk, = found["bytes on the disk, large"]
    large = images.CASES["large"][images.WEIGHED]
    return {**found, "disk of files, large": [round(1000 * on_disk / disk.needed_by(*large))]}


def streamed(name: str, sizes: Sizes) -> Samples:
    SIGNALS.mkdir(exist_ok=True)
    options = argparse.Namespace(count=sizes.count, megabytes=sizes.megabytes, transport="spdy")
    return streams.measure(RUNTIMES[name](), f"streams-{next(RUN)}", options)


def critest(name: str, sizes: Sizes) -> Samples:
    """One at a time, and in parallel but for images: there the suite pulls and removes one image at once, and falls over it."""
    found: Samples = {}
    for parallel, suffix in ((1, ""), (10, ", 10 in parallel")):
        number = max(sizes.critest, parallel)
        images_too = number if parallel == 1 else 0
        options = argparse.Namespace(containers=number, pods=number, images=images_too, parallel=parallel)
        add(found, critest_benchmark.measure(name, next(RUN), options), suffix=suffix)
    if not found:
        raise AssertionError("the suite measured nothing: see its log")
    return found


def floor(_: str, sizes: Sizes) -> Samples:
    """The kernel's own cost, by a program that does the steps and nothing else. What it leaves in its folder goes with that."""
    with tempfile.TemporaryDirectory(dir="/var/lib/cni", prefix="floor-") as scratch:
        words = ["floor", "--count", str(sizes.count), "--scratch", scratch]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


EACH = (*PEERS, "corten")
# Where crun and runc make no difference, containerd is there once; our own plugins only where there are plugins.
ONCE = (CONTAINERD, CRIO, "corten")
WITH_PLUGINS = (*EACH, BUNDLED)
GROUPS = {
    "floor": Group(floor, (HOST,)),
    "plugins": Group(calls.plugins, (HOST,)),
    "containers": Group(calls.containers, EACH),
    "together": Group(calls.together, WITH_PLUGINS),
    "pods": Group(calls.pods, WITH_PLUGINS),
    "lives": Group(calls.lives, WITH_PLUGINS),
    "lists": Group(calls.lists, ONCE, rounds=2),
    "probes": Group(calls.probes, EACH),
    "density": Group(calls.density, EACH, rounds=2),
    "growth": Group(calls.growth, ONCE, rounds=2),
    "events": Group(calls.events, ONCE),
    "images": Group(pulled, ONCE, rounds=3),
    "streams": Group(streamed, ONCE, rounds=2),
    "critest": Group(critest, EACH, rounds=2),
}
