#!/usr/bin/env python3
"""The package's life on a node without systemd (see `life.py`): `tests/lib/node tests/package/node.py [SUBSTRING]`.

dpkg writes below /usr and /var: these are covered here, so that nothing of the host is touched. The daemon is started
and stopped by the tests, as a person would, with the package's own configuration and network.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "package")]
import leftovers  # noqa: E402
import life  # noqa: E402
import registry  # noqa: E402
from recorder import run_cases  # noqa: E402
from runtimes import Corten  # noqa: E402
from service import Service  # noqa: E402

#: What dpkg, its triggers and deb-systemd-helper write to, beside what a node has of its own.
COVERED = ("/usr", "/var/cache")


class PackagedCorten(Corten):
    """Corten as its package installs it."""

    def install(self) -> Service:
        life.dpkg("--install", life.package("one"))
        # What PATH has of the build under test must not be what is found.
        os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin:" + str(pathlib.Path(shutil.which("crictl")).parent)
        shutil.copy(life.EXAMPLE, life.CONFLIST)
        return Service("corten", ["/usr/bin/corten", "serve"])

    def inspect(self, container: str) -> dict:
        return json.loads(self.crictl("inspect", container))

    def stop_before_removal(self) -> None:
        self.service.stop()

    def start_after_install(self) -> None:
        self.service.stop()
        self.service.restart()
        self.await_ready()


def cover(folder: str) -> None:
    upper = pathlib.Path(os.environ["CORTEN_NODE"], "cover" + folder)
    for name in ("upper", "work"):
        (upper / name).mkdir(parents=True)
    options = f"lowerdir={folder},upperdir={upper}/upper,workdir={upper}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", folder], check=True)


def main() -> None:
    for folder in COVERED:
        cover(folder)
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    life.Life.before = leftovers.holdings()
    life.Life.runtime = PackagedCorten()
    run_cases(life.Life, sys.argv[1] if len(sys.argv) > 1 else "")


if __name__ == "__main__":
    main()
