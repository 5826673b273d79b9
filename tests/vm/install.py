#!/usr/bin/env python3
"""Boots a clean Debian in emulation and follows the READMEs' words for a Debian node on it, to a pod.

Usage: vm/install.py

What is done in the node is in `install_inside.py`.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "vm"), str(TESTS / "package")]
from machine import Machine  # noqa: E402
from run import assemble, run_to_its_end  # noqa: E402


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    image = pathlib.Path(subprocess.check_output([TESTS / "vm" / "build"], text=True).strip())
    with tempfile.TemporaryDirectory(prefix="corten-install.", dir=os.environ.get("CORTEN_SCRATCH", "/var/tmp")) as name:
        work = pathlib.Path(name)
        assemble(work / "payload", "install_inside.py", sys.argv[1:], ("crictl",))
        run_to_its_end(Machine(image, work / "payload", work), "install")
    return 0


if __name__ == "__main__":
    sys.exit(main())
