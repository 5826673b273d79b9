#!/usr/bin/env python3
"""Runs the CRI validation suite inside a node and holds it against the list of what is expected.
The specs of streaming run twice, over SPDY and over WebSocket; the name of the second ends in " (websocket)".

Usage: critest/run.py [--runtime corten|containerd] [--show] [--focus PATTERN] [--parallel N]
`--show` only prints what each spec did, and needs no list.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "critest")]
import expectations  # noqa: E402
import leftovers  # noqa: E402
import registry  # noqa: E402
import report  # noqa: E402
from results import record  # noqa: E402
from runtimes import RUNTIMES, Runtime  # noqa: E402
from service import log_folder  # noqa: E402

# The suite names this image by a digest that only the published one has: the constant gets our image's.
PUBLISHED_DIGEST = b"9700f9a2f5bf2c45f2f605a0bd3bce7cf37420ec9d3ed50ac2758413308766bf"


# The specs that the suite can also run over WebSocket, and how it is told to.
STREAMING = re.compile(r"\bStreaming runtime\b")
WEBSOCKET = ["--websocket-exec", "--websocket-attach", "--websocket-portforward"]


def main() -> int:
    options = arguments()
    images = pathlib.Path(os.environ["CORTEN_IMAGES"])
    registry.start(images)
    runtime = RUNTIMES[options.runtime]()
    leftovers.warm_up(runtime)
    before = leftovers.holdings(runtime.state_folders)
    validate(runtime, images, options)
    leftovers.check("the suite's pods", before, runtime.state_folders)
    runtime.stop()
    return 0


def validate(runtime: Runtime, images: pathlib.Path, options: argparse.Namespace) -> None:
    """Runs the suite, or those specs that `options.focus` matches, and records or shows what each of them did.
    A name's end, `options.suffix`, tells runs apart."""
    suite = patched(images)
    focus = [options.focus] if options.focus else []
    specs = report.read(run_suite(runtime, suite, options.parallel, Run("critest", focus, [])))
    chosen = [spec for spec in specs if re.search(options.focus, spec.text)]
    again = [re.escape(spec.text) for spec in chosen if STREAMING.search(spec.text) and spec.state != "skip"]
    if again:
        specs = report.read(run_suite(runtime, suite, 1, Run("critest-websocket", again, WEBSOCKET)))
        ran = [spec for spec in specs if spec.state != "skip"]
        chosen += [dataclasses.replace(spec, text=f"{spec.text} (websocket)") for spec in ran]
    if options.show:
        for spec in chosen:
            print(f"{spec.state}: {spec.text}" + (f"\n  {spec.message}" if spec.message else ""))
        return
    listed = expectations.read(TESTS / "critest" / f"expected.{runtime.name}")
    known = {text: entry for text, entry in listed.items() if re.search(options.focus, text)}
    for status, name, *reason in expectations.judge(chosen, known):
        record(status, name + options.suffix, *reason)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, default="corten")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--focus", default="")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="so many processes of the suite at once")
    parser.set_defaults(suffix="")
    return parser.parse_args()


def patched(images: pathlib.Path) -> pathlib.Path:
    """A copy of the suite that asks for our image by our digest."""
    original = subprocess.check_output(["which", "critest"], text=True).strip()
    wanted = json.loads((images / "digests.json").read_text())["test-image-digest"]
    program = pathlib.Path(original).read_bytes()
    if PUBLISHED_DIGEST not in program:
        raise SystemExit("critest no longer holds the digest that is to be replaced")
    copy = pathlib.Path(os.environ["CORTEN_NODE"], "critest")
    copy.write_bytes(program.replace(PUBLISHED_DIGEST, wanted.removeprefix("sha256:").encode()))
    copy.chmod(0o755)
    return copy


@dataclasses.dataclass
class Run:
    """One run of the suite: the name of its files, the specs it is about (all, where none is named), further options."""

    name: str
    focus: list[str]
    options: list[str]


def run_suite(runtime: Runtime, program: pathlib.Path, processes: int, run: Run) -> pathlib.Path:
    outcome = pathlib.Path(log_folder(), f"{run.name}.json")
    outcome.unlink(missing_ok=True)
    command = [
        program, "--runtime-endpoint", runtime.endpoint,
        "--ginkgo.no-color", "--ginkgo.seed", "1", "--ginkgo.timeout", "40m",
        "--ginkgo.json-report", outcome,
    ]
    if processes > 1:
        command += ["--parallel", str(processes)]
    command += [word for focus in run.focus for word in ("--ginkgo.focus", focus)]
    with open(os.path.join(log_folder(), f"{run.name}.log"), "wb") as log:
        subprocess.run([*command, *run.options], stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)
    if not outcome.exists():
        raise SystemExit(f"critest left no report: see {log.name}")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
