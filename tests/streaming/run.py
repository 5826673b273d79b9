#!/usr/bin/env python3
"""Exec, attach and port-forward of a runtime: through crictl, a kubelet, and by the hundreds. Inside a node.

Usage: streaming/run.py [--runtime corten|containerd] [--only SUBSTRING] [--full]
"""

import argparse
import os
import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "kubelet"), str(TESTS / "streaming")]
import leftovers  # noqa: E402
import registry  # noqa: E402
from crictls import Crictl  # noqa: E402
from kubelet import Kubelet  # noqa: E402
from kubelets import ThroughKubelet  # noqa: E402
from loads import FULL, Loads  # noqa: E402
from memory import Memory, MemoryOverTls  # noqa: E402
from on_streams import SIGNALS  # noqa: E402
from recorder import run_cases  # noqa: E402
from reconfigured import Draining, OverTls  # noqa: E402
from runtimes import RUNTIMES  # noqa: E402
from told import Taken, Told  # noqa: E402
from wait import until  # noqa: E402

# The kubelet removes dead sandboxes once a minute.
COLLECTION = 150


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, default="corten")
    parser.add_argument("--only", default="")
    parser.add_argument("--full", action="store_true", help=f"{FULL} sessions in a row instead of a few hundred")
    options = parser.parse_args()
    SIGNALS.mkdir()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtime = RUNTIMES[options.runtime]()
    leftovers.warm_up(runtime)
    if options.full:
        Loads.in_a_row = FULL
    # What a peer has of the rest is not its configuration's.
    for case in (Crictl, Loads, *((Draining, Told, Taken, OverTls, Memory, MemoryOverTls) if runtime.name == "corten" else ())):
        before = leftovers.holdings(runtime.state_folders)
        case.runtime = runtime
        run_cases(case, options.only)
        leftovers.check(f"the sessions of {case.__name__}", before, runtime.state_folders)
    through_kubelet(runtime, options.only)
    runtime.stop()
    return 0


def through_kubelet(runtime, only: str) -> None:
    kubelet = Kubelet(runtime.endpoint)
    ThroughKubelet.kubelet, ThroughKubelet.runtime = kubelet, runtime
    run_cases(ThroughKubelet, only)
    until(lambda: not kubelet.pod_names(), COLLECTION, "the kubelet has no pod")
    kubelet.stop()


if __name__ == "__main__":
    sys.exit(main())
