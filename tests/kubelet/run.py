#!/usr/bin/env python3
"""Runs static pods of a real kubelet on a runtime, inside a node, and asserts what they do.

Usage: kubelet/run.py [--runtime corten|containerd] [--only SUBSTRING] [--kill-daemon SECONDS]
`--kill-daemon` kills the runtime's daemon every so many seconds while the pods live, and starts it again at once.
"""

import argparse
import os
import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "kubelet")]
import cases  # noqa: E402
import ends  # noqa: E402
import gates  # noqa: E402
import leftovers  # noqa: E402
import pods  # noqa: E402
import registry  # noqa: E402
import restarts  # noqa: E402
import rotation  # noqa: E402
import security  # noqa: E402
import starts  # noqa: E402
import volumes  # noqa: E402
from killer import Killer  # noqa: E402
from kubelet import MANIFESTS, POD_LOGS, Kubelet, put  # noqa: E402
from on_kubelet import OnKubelet  # noqa: E402
from recorder import run_cases  # noqa: E402
from results import record  # noqa: E402
from runtimes import RUNTIMES, Runtime  # noqa: E402
from wait import Late, until  # noqa: E402

# The kubelet collects dead sandboxes, then their logs, once a minute each; a kill may fall on one of them.
COLLECTION = 210
# In the order of their cases. The restarts look at what those before have left, and are not the last, nor are the
# gates: the kubelet's minute begins with its start, and at the end of all it is waited for.
ROOMS = (starts, security, volumes, ends, rotation, gates, restarts, cases)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, default="corten")
    parser.add_argument("--only", default="")
    parser.add_argument("--kill-daemon", type=float, metavar="SECONDS")
    options = parser.parse_args()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtime = RUNTIMES[options.runtime]()
    leftovers.warm_up(runtime)
    kubelet = Kubelet(runtime.endpoint)
    before = leftovers.holdings(runtime.state_folders)
    before["cgroup"] |= leftovers.kubelet_cgroups()
    OnKubelet.kubelet, OnKubelet.runtime = kubelet, runtime
    killer = OnKubelet.killer = Killer(runtime, options.kill_daemon) if options.kill_daemon else None
    run(runtime, options.only)
    clear(kubelet, runtime)
    if killer:
        killer.stop()
        record("pass" if killer.kills else "fail", f"the daemon was killed every {options.kill_daemon:g} s", f"{killer.kills} kills")
    leftovers.check("the pods", before, runtime.state_folders)
    kubelet.stop()
    runtime.stop()
    return 0


def run(runtime: Runtime, only: str) -> None:
    pods.SIGNALS.mkdir()
    starts.prepare(runtime.mirrors)
    for room in ROOMS:
        for make in room.PODS:
            put(make())
    for room in ROOMS:
        for case in room.CASES:
            run_cases(case, only)


def clear(kubelet: Kubelet, runtime: Runtime) -> None:
    """Every pod is taken away; none of them may stay."""
    for manifest in MANIFESTS.iterdir():
        manifest.unlink()
    try:
        until(lambda: not kubelet.pod_names(), COLLECTION, "the kubelet has no pod")
        until(lambda: not runtime.crictl("pods", "-q").split(), COLLECTION, "the runtime has no sandbox")
        until(lambda: not list(POD_LOGS.iterdir()), COLLECTION, "no log is left")
    except Late as late:
        record("fail", "all pods go when their manifests are taken away", str(late))
    else:
        record("pass", "all pods go when their manifests are taken away")


if __name__ == "__main__":
    sys.exit(main())
