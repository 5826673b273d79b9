#!/usr/bin/env python3
"""What runs in the machine: the lane's own cases, then the CRI validation suite, with AppArmor and cgroup v2, then the
oracle's bundles, and at last the package's upgrade, removal and purge while containers run.

Usage: vm/inside.py [--full | --focus PATTERN | --no-suite | --bundles REGEX] [--driver DRIVER] [--only SUBSTRING] [--show]
Without an option the suite is run in its short form: the specs whose outcome can depend on such a node (SHORT), and of
the bundles a part. `--bundles` runs some of the bundles and nothing else, `--focus` and `--no-suite` none of them.
"""

import argparse
import os
import pathlib
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "vm"), str(TESTS / "critest"), str(TESTS / "package"), str(TESTS)]
os.environ["CORTEN_NODE"] = tempfile.mkdtemp(prefix="lane-")
import bundles  # noqa: E402
import cases  # noqa: E402
import leftovers  # noqa: E402
import life  # noqa: E402
import registry  # noqa: E402
import scopes.cases as scopes  # noqa: E402
import storage  # noqa: E402
from installed import InstalledCorten, UNIT, journal, systemctl  # noqa: E402
from recorder import run_cases  # noqa: E402
from service import log_folder  # noqa: E402

# critest's own program, by its file's name: there is a run.py in each folder of a tier.
from importlib.util import module_from_spec, spec_from_file_location  # noqa: E402

# What the suite's pods are in, under the systemd driver.
SUITES_SLICE = "test.slice"
SHORT = r"AppArmor|Security Context|OOM|Container runtime should support (basic|adding|mount)|PodSandbox"


def main() -> int:
    options = arguments()
    keep_a_quota()
    images = pathlib.Path(os.environ["CORTEN_IMAGES"])
    registry.start(images)
    life.Life.before = leftovers.holdings()
    life.Life.runtime = runtime = InstalledCorten()
    try:
        if options.bundles is None:
            validate_node(runtime, images, options)
        runtime.stop()
        run_bundles(options)
        if options.bundles is None:
            live(runtime, options)
    finally:
        write_logs()
    return 0


def keep_a_quota() -> None:
    """The first CPU quota of a machine, and the last one's end, have the kernel rewrite its scheduler as it runs, of which an
    emulated one dies now and then. This one is more than there is to use, and lasts."""
    systemctl("set-property", "--runtime", "lane.service", "CPUQuota=1000%")


def validate_node(runtime: InstalledCorten, images: pathlib.Path, options: argparse.Namespace) -> None:
    """What is asked of the daemon, and that nothing of it is left."""
    # Each driver leaves a cgroup of Corten's own behind its first pod.
    for driver in ("systemd", "cgroupfs"):
        scopes.set_driver(runtime, driver)
        leftovers.warm_up(runtime)
    before = leftovers.holdings(runtime.state_folders)
    for case in (*cases.CASES, *scopes.CASES, *storage.CASES):
        case.runtime = runtime
        run_cases(case, options.only)
    for driver in drivers(options):
        scopes.set_driver(runtime, driver)
        options.suffix = f" ({driver})"
        suite().validate(runtime, images, options)
    # As it was when its holdings were looked at: Corten has a cgroup for holders under systemd's driver alone.
    scopes.set_driver(runtime, "cgroupfs")
    scopes.drop_slice(SUITES_SLICE)
    leftovers.check("the lane's pods", before, runtime.state_folders)


def drivers(options: argparse.Namespace) -> list[str]:
    """Those that the suite is run with; "auto" is systemd's here."""
    if not options.suite:
        return []
    both = ["auto", "cgroupfs"]
    return [options.driver] if options.driver else both[: 2 if options.focus == "" else 1]


def live(runtime: InstalledCorten, options: argparse.Namespace) -> None:
    """The package's life, as it is configured by itself."""
    scopes.DROP_IN.unlink()
    scopes.DROP_IN.parent.rmdir()
    runtime.service.start()
    run_cases(life.Life, options.only)


def run_bundles(options: argparse.Namespace) -> None:
    """The oracle's part, where it was not left out."""
    if options.bundles is not None:
        bundles.run(["--only", options.bundles, *["--show"] * options.show])
    elif options.focus == "":
        bundles.run([])
    elif options.suite and options.focus == SHORT:
        bundles.run_some()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--full", dest="focus", action="store_const", const="")
    which.add_argument("--focus")
    which.add_argument("--no-suite", dest="suite", action="store_false")
    which.add_argument("--bundles", metavar="REGEX")
    parser.add_argument("--driver", choices=("auto", "cgroupfs", "systemd"), help="the cgroup driver of the suite; --full: both")
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
