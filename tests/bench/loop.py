#!/usr/bin/env python3
"""A kubelet's calls on several runtimes in turns: see `loop`, which prepares the node."""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "lib"))
import leftovers  # noqa: E402
import registry  # noqa: E402
from figures import Samples, add, in_turns  # noqa: E402
from owned import owned, pss  # noqa: E402
from peers import RUNTIMES  # noqa: E402
from runtimes import CNI_CONF, METRICS, PLUGINS, Runtime  # noqa: E402

COLD = "50ms"
PART = re.compile(r'^corten_container_start_part_seconds_(sum|count)\{part="(\w+)"\} (\S+)$', re.MULTILINE)


def main() -> int:
    options = arguments()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    in_turns(options.runtimes, options.rounds, lambda name, _: measure(name, options), "loop")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20, help="containers and pods in a row, each")
    parser.add_argument("--hold", type=int, default=40, help="containers that run while memory is looked at")
    parser.add_argument("--runtimes", type=lambda text: text.split(","), default=["containerd", "corten"])
    return parser.parse_args()


def measure(name: str, options: argparse.Namespace) -> Samples:
    """One run on one runtime, which is there for it alone."""
    runtime = RUNTIMES[name]()
    try:
        leftovers.warm_up(runtime)
        found: Samples = {}
        count = str(options.count)
        add(found, loop(runtime, "containers", "--count", count))
        add(found, parts(runtime))
        add(found, loop(runtime, "containers", "--count", count, "--pause", COLD), suffix=", cold")
        add(found, loop(runtime, "pods", "--count", count))
        # The plugins alone, in the same minute: what no runtime can be quicker than.
        conflist = str(CNI_CONF / "10-tests.conflist")
        add(found, loop(runtime, "plugins", "--count", count, "--conflist", conflist, "--bin", PLUGINS))
        add(found, loop(runtime, "parallel", "--count", "10"))
        add(found, memory(runtime, options.hold))
        return found
    finally:
        runtime.stop()


def loop(runtime: Runtime, what: str, *words: str) -> Samples:
    done = subprocess.run(command(runtime, what, *words), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{what} on {runtime.name}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def parts(runtime: Runtime) -> Samples:
    """What Corten's shims needed so far for each part of Create and Start, as they measure it: means. (Much of `cgroup`
    is done while the daemon writes the bundle.)"""
    if runtime.name != "corten":
        return {}
    with urllib.request.urlopen(METRICS, timeout=10) as answer:
        told = {(word, part): float(value) for word, part, value in PART.findall(answer.read().decode())}
    seconds = {part: told["sum", part] / told["count", part] for word, part in told if word == "sum"}
    return {f"  shim: {part}": [round(value * 1e9)] for part, value in seconds.items()}


def command(runtime: Runtime, what: str, *words: str) -> list[str]:
    return ["loop", what, "--endpoint", runtime.endpoint, "--image", leftovers.IMAGE, *words]


def memory(runtime: Runtime, count: int) -> Samples:
    """Proportional set sizes with `count` containers running: the daemon's, and all else of it for each container."""
    with subprocess.Popen(
        command(runtime, "hold", "--count", str(count)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        sizes = {pid: pss(pid) for pid in owned(runtime)}
        holder.stdin.close()
    daemon = sizes.pop(runtime.service.pid)
    return {f"bytes, daemon at {count}": [daemon], f"bytes, each of {count}": [sum(sizes.values()) // count]}


if __name__ == "__main__":
    sys.exit(main())
