#!/usr/bin/env python3
"""What runs in the machine: the lane's own cases, then the CRI validation suite, with AppArmor and cgroup v2.

Usage: vm/inside.py [--full | --focus PATTERN | --no-suite] [--only SUBSTRING] [--show]
Without an option the suite is run in its short form: the specs whose outcome can depend on such a node (SHORT).
"""

import argparse
import os
import pathlib
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "vm"), str(TESTS / "critest")]
os.environ["CORTEN_NODE"] = tempfile.mkdtemp(prefix="lane-")
import cases  # noqa: E402
import leftovers  # noqa: E402
import registry  # noqa: E402
from installed import InstalledCorten, UNIT, journal  # noqa: E402
from recorder import run_cases  # noqa: E402
from service import log_folder  # noqa: E402

# critest's own program, by its file's name: there is a run.py in each folder of a tier.
from importlib.util import module_from_spec, spec_from_file_location  # noqa: E402

SHORT = r"AppArmor|Security Context|OOM|Container runtime should support (basic|adding|mount)|PodSandbox"


def main() -> int:
    options = arguments()
    images = pathlib.Path(os.environ["CORTEN_IMAGES"])
    registry.start(images)
    runtime = InstalledCorten()
    try:
        leftovers.warm_up(runtime)
        before = leftovers.holdings(runtime.state_folders)
        for case in cases.CASES:
            case.runtime = runtime
            run_cases(case, options.only)
        if options.suite:
            suite().validate(runtime, images, options)
        leftovers.check("the lane's pods", before, runtime.state_folders)
        runtime.stop()
    finally:
        write_logs()
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--full", dest="focus", action="store_const", const="")
    which.add_argument("--focus")
    which.add_argument("--no-suite", dest="suite", action="store_false")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true")
    parser.set_defaults(focus=SHORT, parallel=1)
    return parser.parse_args()


def suite():
    spec = spec_from_file_location("critest_run", TESTS / "critest" / "run.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_logs() -> None:
    folder = pathlib.Path(log_folder())
    (folder / "corten.log").write_text(journal("--unit", UNIT, "--output=short-monotonic"))
    (folder / "kernel.log").write_text(journal("--dmesg", "--output=short-monotonic"))
    (folder / "journal.log").write_text(journal("--output=short-monotonic", "--priority=warning"))


if __name__ == "__main__":
    sys.exit(main())
