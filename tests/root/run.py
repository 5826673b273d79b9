#!/usr/bin/env python3
"""Runs the Rust tests that need root, inside a node, and looks whether they left anything.

Usage: root/run.py PROGRAM… — the integration test programs of which every test needs root; of all other programs
only the tests whose names begin with root_ are run.
"""

import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "lib"))
import leftovers  # noqa: E402


def main() -> int:
    before = leftovers.holdings()
    command = [TESTS / "lib/cargo_test.py", "--workspace", "--offline"]
    status = subprocess.run([*command, "--tests", "--", "root_", "--include-ignored"], check=False).returncode
    programs = [word for name in sys.argv[1:] for word in ("--test", name)]
    if programs:
        status |= subprocess.run([*command, *programs, "--", "--skip", "root_"], check=False).returncode
    leftovers.check("the root tests", before)
    return status


if __name__ == "__main__":
    sys.exit(main())
