#!/usr/bin/env python3
"""Boots a node like most production nodes in emulation, and runs this lane's tests in it.

Usage: vm/run.py [--full | --focus PATTERN | --no-suite | --bundles REGEX] [--driver DRIVER] [--only SUBSTRING] [--show]

The node is Debian 13: systemd is PID 1, cgroup v2 only, AppArmor on. Corten is installed in it as an operator would, by its package.
Inside, `inside.py` does the work; here the disks are made, and what the node says is passed on.
"""

import argparse
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "vm"), str(TESTS / "package")]
from machine import Machine, MachineEnded  # noqa: E402
from results import record  # noqa: E402
from service import log_folder  # noqa: E402
from storage import make_disk  # noqa: E402

# From power on to the end of the command, in its long form.
PATIENCE = 150 * 60
# What the tests in the node recorded: not named as this tier's own file, beside which it is unpacked.
RECORDED = "recorded"
SUITES = ("critest", "crictl", "runc", "oci-runtime", "probe")
MADE = {"oci-runtime": "ORACLE_RUNTIME", "probe": "ORACLE_PROBE"}


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    image = pathlib.Path(subprocess.check_output([TESTS / "vm" / "build"], text=True).strip())
    with tempfile.TemporaryDirectory(prefix="corten-vm.", dir=os.environ.get("CORTEN_SCRATCH", "/var/tmp")) as name:
        work = pathlib.Path(name)
        assemble(work / "payload", "inside.py", options.words)
        make_disk(work / "storage")
        run_to_its_end(Machine(image, work / "payload", work, work / "storage"), "")
    return 0


def run_to_its_end(machine: Machine, logs: str) -> None:
    """Passes on what a machine says, and takes over what its tests recorded and what it logged, into a folder of this name."""
    try:
        follow(machine)
    except MachineEnded as ended:
        record("fail", "the machine runs to its end" + f" ({logs})" * bool(logs), str(ended))
    finally:
        machine.end()
        keep(machine, pathlib.Path(log_folder(), logs))


def arguments() -> argparse.Namespace:
    """What is not known here is for `inside.py`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options, options.words = parser.parse_known_args(namespace=argparse.Namespace())
    return options


def assemble(folder: pathlib.Path, program: str, words: list[str], programs: tuple[str, ...] = SUITES) -> None:
    """All that the node is given: Corten and what installs it, the suites, their images, and what to run of this folder. It is
    laid out as a checkout is."""
    folder.mkdir()
    shutil.copytree(TESTS, folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TESTS.parent / "deploy", folder / "deploy")
    shutil.copy2(TESTS.parent / "README.md", folder)
    shutil.copytree(os.environ["CORTEN_PACKAGES"], folder / "packages")
    shutil.copytree(os.environ["CORTEN_IMAGES"], folder / "images")
    (folder / "bin").mkdir()
    for name in programs:
        strip(found(name), folder / "bin" / name)
    start = folder / "run"
    start.write_text(
        "#!/bin/sh\nexport PATH=/tests/bin:$PATH CORTEN_CHECKOUT=/tests CORTEN_IMAGES=/tests/images CORTEN_PACKAGES=/tests/packages PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8\n"
        f"export CORTEN_TIER_LOGS=/lane/out CORTEN_RESULTS=/lane/out/{RECORDED}\n"
        f"exec python3 -u /tests/tests/vm/{program} {shlex.join(words)}\n"
    )
    start.chmod(0o755)


def distribution() -> list[pathlib.Path]:
    return [pathlib.Path(os.environ["CORTEN_DIST"], name) for name in ("corten", "corten-shim")]


def found(program: str) -> pathlib.Path:
    """Two have their places from what made them."""
    path = os.environ.get(MADE.get(program, ""), shutil.which(program))
    if path is None:
        raise SystemExit(f"{program} is not in PATH")
    return pathlib.Path(path)


def strip(program: pathlib.Path, copy: pathlib.Path) -> None:
    """Symbols of a debug build are most of it, and an emulated disk is slow. Go's programs have none."""
    shutil.copy2(program, copy)
    subprocess.run(["strip", "--strip-debug", copy], check=True)


def follow(machine: Machine) -> None:
    """Passes on what the node says until its command has ended."""
    start = time.monotonic()
    for line in machine.lines(PATIENCE):
        print(f"{time.monotonic() - start:6.1f}  {line}", flush=True)
    print(f"the node was up after {machine.booted or 0:.1f} s", flush=True)
    if machine.status != 0:
        record("fail", "the tests in the machine come to their end", f"status {machine.status}")


def keep(machine: Machine, folder: pathlib.Path) -> None:
    """Takes over the node's logs, and what its tests recorded."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(machine.console, folder / "console.log")
    if machine.status is None:
        return
    machine.fetch(folder)
    inside = folder / RECORDED
    for line in inside.read_text().splitlines() if inside.exists() else ():
        record(*line.split("\t"))


if __name__ == "__main__":
    sys.exit(main())
