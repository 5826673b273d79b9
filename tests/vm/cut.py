#!/usr/bin/env python3
"""Cuts the power of an emulated node during a pull, boots it again, and looks at what is on its disk.

Usage: vm/cut.py [--points N] [--seed N]

Another kernel than the host's, with a true new boot: the node's disk loses what was not flushed (volatile.py). Each cut is
two boots, of which the second looks (cut_inside.py). `tests/crash` makes hundreds of cuts without a machine.
"""

import argparse
import collections
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "vm"), str(TESTS / "package")]
from machine import Machine, MachineEnded  # noqa: E402
from results import record  # noqa: E402
from run import distribution, strip  # noqa: E402
from volatile import Disk  # noqa: E402

NAME = "an image is absent or whole after the node's power was cut in its pull"
DISK_BYTES = 512 << 20
#: For one boot and what it does.
PATIENCE = 15 * 60
#: A cut comes at most so many pulls after the pull has begun.
LATEST = 1.3
#: An emulated kernel dies now and then before it has begun anything; that says nothing of Corten.
BOOTS = 3


class NeverBegan(Exception):
    """The machine ended before its command began."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    image = pathlib.Path(subprocess.check_output([TESTS / "vm" / "build"], text=True).strip())
    dice, verdicts = random.Random(asked.seed), collections.Counter()
    print(f"seed {asked.seed}", flush=True)
    try:
        for _ in range(asked.points):
            verdicts[whatever_the_emulator_does(image, dice)] += 1
    except (AssertionError, MachineEnded) as error:
        record("fail", NAME, str(error))
        print(f"FAILED: {error}", flush=True)
        return 1
    record("pass", NAME)
    print(f"{asked.points} cuts: {dict(verdicts)}", flush=True)
    return 0


def whatever_the_emulator_does(image: pathlib.Path, dice: random.Random) -> str:
    for left in reversed(range(BOOTS)):
        try:
            return one(image, dice)
        except NeverBegan as never:
            print(f"  {never}", flush=True)
            if left == 0:
                raise MachineEnded(f"{BOOTS} times: {never}") from never
    raise AssertionError("no boot was tried")


def one(image: pathlib.Path, dice: random.Random) -> str:
    """One cut. Gives what the second boot says of the image."""
    scratch = os.environ.get("CORTEN_SCRATCH", "/var/tmp")
    with tempfile.TemporaryDirectory(prefix="corten-cut.", dir=scratch) as name:
        work = pathlib.Path(name)
        data = work / "data"
        with open(data, "wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", data], check=True)
        cut_in_a_pull(image, work, data, dice)
        return look(image, work, data)


def cut_in_a_pull(image: pathlib.Path, work: pathlib.Path, data: pathlib.Path, dice: random.Random) -> None:
    disk = Disk(data, work / "socket")
    machine = boot(image, work, "pull", work / "socket")
    try:
        for line in lines(machine):
            word, *rest = line.split()
            if word == "pulling":
                time.sleep(dice.uniform(0, LATEST * float(rest[0])))
                print(f"  the power goes; {disk.cut(dice)} sectors were not on the disk", flush=True)
                return
        raise AssertionError("no pull was begun")
    finally:
        disk.cut(dice)
        machine.end()


def look(image: pathlib.Path, work: pathlib.Path, data: pathlib.Path) -> str:
    machine = boot(image, work, "look", data)
    said = [""]
    try:
        said += lines(machine)
    finally:
        machine.end()
    assert machine.status == 0, "; ".join(said[-3:])
    return said[-1]


def lines(machine: Machine) -> Iterator[str]:
    """What the machine says, passed on."""
    try:
        for line in machine.lines(PATIENCE):
            print(f"  {line}", flush=True)
            yield line
    except MachineEnded as ended:
        if machine.booted is None:
            raise NeverBegan(str(ended)) from ended
        raise


def boot(image: pathlib.Path, work: pathlib.Path, what: str, disk: pathlib.Path) -> Machine:
    payload = work / what
    payload.mkdir()
    shutil.copytree(TESTS / "lib", payload / "tests" / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TESTS / "crash", payload / "tests" / "crash", ignore=shutil.ignore_patterns("__pycache__"))
    (payload / "tests" / "vm").mkdir()
    shutil.copy2(TESTS / "vm" / "cut_inside.py", payload / "tests" / "vm")
    (payload / "bin").mkdir()
    for program in distribution():
        strip(program, payload / "bin" / program.name)
    start = payload / "run"
    start.write_text(
        "#!/bin/sh\nexport CORTEN_DIST=/tests/bin CORTEN_TIER_LOGS=/lane/out PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8\n"
        f"exec python3 -u /tests/tests/vm/cut_inside.py {shlex.quote(what)}\n"
    )
    start.chmod(0o755)
    folder = work / f"machine-{what}"
    folder.mkdir()
    return Machine(image, payload, folder, disk)


if __name__ == "__main__":
    sys.exit(main())
