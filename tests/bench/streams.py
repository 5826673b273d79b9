#!/usr/bin/env python3
"""Streams of several runtimes in turns: see `streams`, which prepares the node."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "streaming")]
import leftovers  # noqa: E402
import registry  # noqa: E402
from figures import Samples, in_turns  # noqa: E402
from on_streams import PORT, SIGNALS, LARGE, Pod  # noqa: E402
from peers import RUNTIMES  # noqa: E402
from runtimes import Runtime  # noqa: E402
from wait import until  # noqa: E402

# The pages come from one process: how fast a pod forks is nothing of the runtime's.
PROGRAM = pathlib.Path(shutil.which("streams"))
SERVE = f"exec /tools/{PROGRAM.name} serve --port {PORT} --bytes {LARGE}"
TOOLS = [{"host_path": str(PROGRAM.parent), "container_path": "/tools", "readonly": True}]


def main() -> int:
    options = arguments()
    SIGNALS.mkdir()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    in_turns(options.runtimes, options.rounds,
             lambda name, number: measure(RUNTIMES[name](), f"round-{number}-{name}", options), "streams")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20, help="sessions in a row, for the first byte")
    parser.add_argument("--megabytes", type=int, default=500, help="what an exec says")
    parser.add_argument("--transport", choices=("spdy", "websocket", "raw"), default="spdy")
    parser.add_argument("--runtimes", type=lambda text: text.split(","), default=["containerd", "corten"])
    return parser.parse_args()


def measure(runtime: Runtime, name: str, options: argparse.Namespace) -> Samples:
    """One run on one runtime, which is there for it alone."""
    try:
        leftovers.warm_up(runtime)
        pod = Pod(runtime, name)
        served = pod.start("served", SERVE, mounts=TOOLS)
        until(lambda: runtime.crictl("exec", "-s", served, "wget", "-qO-", f"http://127.0.0.1:{PORT}/"), 30, "pages")
        found = timed(runtime, pod.sandbox, served, options)
        pod.remove()
        return found
    finally:
        runtime.stop()


def timed(runtime: Runtime, sandbox: str, served: str, options: argparse.Namespace) -> Samples:
    blocks, count = options.megabytes * 16, str(options.count)
    size = blocks << 16
    transport = ("--transport", options.transport)
    # Blocks as large as a pipe: what speaks is not to be what is measured.
    say = ("sh", "-c", f"dd if=/dev/zero bs=64k count={blocks} 2>/dev/null")
    inside = ("--container", served, *transport)
    ports = ("--sandbox", sandbox, "--port", str(PORT), *transport)
    return {
        f"exec, {options.megabytes} MiB of stdout": streams(
            runtime, "rate", "exec", *inside, "--bytes", str(size), "--count", "3", "--", *say),
        f"forwarded, {LARGE >> 20} MiB": streams(
            runtime, "rate", "forward", *ports, "--bytes", str(LARGE), "--count", "3"),
        "exec, first byte": streams(runtime, "first", "exec", *inside, "--count", count, "--", "echo", "hello"),
        "forwarded, first byte": streams(runtime, "first", "forward", *ports, "--count", count),
        "a call and a page without a session": streams(
            runtime, "first", "nothing", "--address", f"{address(runtime, sandbox)}:{PORT}", "--count", count),
    }


def address(runtime: Runtime, sandbox: str) -> str:
    return json.loads(runtime.crictl("inspectp", sandbox))["status"]["network"]["ip"]


def streams(runtime: Runtime, what: str, verb: str, *words: str) -> list[int]:
    command = ["streams", what, verb, "--endpoint", runtime.endpoint, *words]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
