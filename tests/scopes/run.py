#!/usr/bin/env python3
"""Pods under the systemd cgroup driver, in a node whose process 1 is a systemd, on the cgroups that the
host has.

Usage: scopes/run.py [--only SUBSTRING]
"""

import argparse
import os
import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
# Its own folder first: the VM has cases, too.
sys.path[:0] = [str(TESTS / "scopes"), str(TESTS / "lib"), str(TESTS / "vm"), str(TESTS / "package")]
import cases  # noqa: E402
import leftovers  # noqa: E402
import registry  # noqa: E402
from installed import UNIT, Unit, systemctl  # noqa: E402
from recorder import run_cases  # noqa: E402
from runtimes import Corten  # noqa: E402

ASKED_OF_A_BOOTED_HOST = ("After=", "Before=", "ExecStartPre=", "[Install]", "WantedBy=")


class UnitOfTheNode(Unit):
    """One that is nobody's but the node's, and not to be started at a boot."""

    def __init__(self, name: str) -> None:
        self.name = name
        systemctl("daemon-reload")
        self.start()


class CortenOfSystemd(Corten):
    """Corten as a service of the node's systemd, from where it was built."""

    def install(self) -> Unit:
        self.configure()
        program = os.path.join(os.environ["CORTEN_DIST"], "corten")
        lines = (TESTS.parent / "deploy" / UNIT).read_text().splitlines()
        lines = [line for line in lines if not line.startswith(ASKED_OF_A_BOOTED_HOST)]
        text = "\n".join(lines).replace("[Unit]", "[Unit]\nDefaultDependencies=no")
        text = text.replace("ExecStart=/usr/local/bin/corten serve", f"ExecStart={program} serve")
        pathlib.Path("/etc/systemd/system", UNIT).write_text(
            f"{text}\n[Service]\nEnvironment=PATH={os.environ['PATH']} TMPDIR={os.environ['TMPDIR']}\n"
            f"StandardOutput=append:{os.environ['CORTEN_TIER_LOGS']}/corten.log\n"
            f"StandardError=append:{os.environ['CORTEN_TIER_LOGS']}/corten.log\n"
        )
        return UnitOfTheNode(UNIT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtime = CortenOfSystemd()
    for driver in ("systemd", "cgroupfs"):
        cases.set_driver(runtime, driver)
        leftovers.warm_up(runtime)
    before = leftovers.holdings(runtime.state_folders)
    for case in cases.CASES:
        case.runtime = runtime
        run_cases(case, options.only)
    leftovers.check("the pods of systemd", before, runtime.state_folders)
    runtime.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
