#!/usr/bin/env python3
"""Tries to break out of containers, as those did who broke other runtimes. Inside a node.

Usage: escape/run.py [--only SUBSTRING]
"""

import argparse
import ctypes
import os
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "escape")]
import leftovers  # noqa: E402
import registry  # noqa: E402
from asked import Logs, Requests  # noqa: E402
from attempts import HERE, NODE, PROBE, SIGNALS  # noqa: E402
from images import Images  # noqa: E402
from mounted import Devices, Kernel, Links, Volumes  # noqa: E402
from neighbours import Joining, Neighbours, SharedProcesses  # noqa: E402
from owned import Groups, Users  # noqa: E402
from programs import Descriptors, Program  # noqa: E402
from recorder import run_cases  # noqa: E402
from runtimes import Corten  # noqa: E402
from sessions import Sessions  # noqa: E402

CASES = (Program, Descriptors, Devices, Kernel, Links, Volumes, Users, Groups, Requests, Logs, SharedProcesses, Neighbours, Joining, Sessions)
# A group that the daemon has and no container may.
LEFT_BEHIND = 4242
JOIN_SESSION_KEYRING, SYS_KEYCTL, SYS_ADD_KEY = 1, {"x86_64": 250, "aarch64": 219}, {"x86_64": 248, "aarch64": 217}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    SIGNALS.mkdir()
    # Any user of a container writes its signs there.
    SIGNALS.chmod(0o777)
    subprocess.run(["gcc", "-static", "-Os", "-s", "-Wall", "-Werror", "-o", PROBE, HERE / "probe.c"], check=True)
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    leave_behind()
    runtime = Corten()
    images = Images(NODE / "images", runtime.endpoint)
    leftovers.warm_up(runtime)
    before = leftovers.holdings(runtime.state_folders)
    for case in CASES:
        case.runtime, case.images = runtime, images
        run_cases(case, options.only)
    leftovers.check("all that was tried", before, runtime.state_folders)
    runtime.stop()
    return 0


def leave_behind() -> None:
    """Gives this process, and so the daemon, what a container must not inherit."""
    os.setgroups([0, LEFT_BEHIND])
    machine, kernel = os.uname().machine, ctypes.CDLL(None, use_errno=True)
    kernel.syscall(SYS_KEYCTL[machine], JOIN_SESSION_KEYRING, None)
    kernel.syscall(SYS_ADD_KEY[machine], b"user", b"of-the-node", b"secret", 6, -3)


if __name__ == "__main__":
    sys.exit(main())
