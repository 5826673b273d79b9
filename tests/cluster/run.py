#!/usr/bin/env python3
"""Makes a whole Kubernetes node with kubeadm on a runtime, inside a node of the tests, uses it, and resets it.

Usage: cluster/run.py [--runtime corten|containerd] [--only SUBSTRING | --times]
`--times` makes, times and resets the cluster, without a case in between.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "cluster")]
import leftovers  # noqa: E402
import pods  # noqa: E402
import registry  # noqa: E402
import restarts  # noqa: E402
import sessions  # noqa: E402
import upkeep  # noqa: E402
import usage  # noqa: E402
import workloads  # noqa: E402
from figures import Figures, table  # noqa: E402
from node import Node, make_places  # noqa: E402
from on_cluster import OnCluster  # noqa: E402
from recorder import chosen, run_cases  # noqa: E402
from results import record  # noqa: E402
from runtimes import RUNTIMES, Runtime  # noqa: E402
from wait import until  # noqa: E402

# In the order of their cases: what was drained is empty of the pods that the rooms before look at.
ROOMS = (pods, sessions, usage, workloads, restarts, upkeep)
CASES = [case for room in ROOMS for case in room.CASES]
MANIFESTS = ("metrics-server.yaml", workloads.MANIFEST, pods.MANIFEST)
# What kubeadm makes and resets.
FOLDERS = ("/etc/kubernetes/manifests", "/etc/kubernetes/pki", "/var/lib/etcd", "/var/lib/kubelet")
POD_CGROUP = re.compile(r"/kubepods(?:/burstable|/besteffort)?/pod([0-9a-f-]+)$")
PATIENCE = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, default="corten")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", default="")
    what.add_argument("--times", action="store_true")
    options = parser.parse_args()
    if not any(chosen(case, options.only) for case in CASES):
        parser.error(f"no case has {options.only!r} in its name")
    make_places()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtime = RUNTIMES[options.runtime]()
    leftovers.warm_up(runtime)
    folders = (*runtime.state_folders, *FOLDERS)
    before = leftovers.holdings(folders)
    before["cgroup"] |= leftovers.kubelet_cgroups()
    node = OnCluster.node = Node(runtime)
    figures = Figures(options.runtime, node.waited_for_runtime)
    begin(node, figures)
    if not options.times:
        use(node, figures, options.only)
    before["cgroup"] |= pod_cgroups(runtime)
    end(node, figures)
    leftovers.check("the cluster after kubeadm reset", before, folders)
    runtime.stop()
    figures.keep()
    print(table(), flush=True)
    return 0


@contextmanager
def recorded(event: str) -> Iterator[None]:
    """Records that an event has come about, or why not."""
    try:
        yield
    except AssertionError as error:
        print(f"{event}: {error}", flush=True)
        record("fail", event, str(error)[:300])
        raise
    record("pass", event)


def begin(node: Node, figures: Figures) -> None:
    """From nothing to a cluster that resolves names, and a namespace that comes and goes in it."""
    started = time.monotonic()
    with recorded("kubeadm init ends"):
        pulled, seconds = node.init()
    figures.add("kubeadm init: until its images are there", pulled)
    figures.add("kubeadm init", seconds)
    with recorded("the node is ready"):
        until(node.is_ready, PATIENCE, "the node is ready")
    figures.add("node ready, from the beginning of kubeadm init", time.monotonic() - started)
    with recorded("kube-proxy and CoreDNS are ready"):
        node.roll_out("kube-system", "ds/kube-proxy")
        until(node.dns_runs, PATIENCE, "CoreDNS runs")
        figures.add("CoreDNS running, from the beginning of kubeadm init", time.monotonic() - started)
        node.roll_out("kube-system", "deploy/coredns")
        figures.add("CoreDNS ready, from the beginning of kubeadm init", time.monotonic() - started)
        figures.add("CoreDNS ready: calls of the runtime, added up", node.waited_for_runtime())
    with recorded("12 pods of a Deployment are available"), figures.timed_with_calls("12 pods of a Deployment available"):
        node.apply("twelve.yaml")
        node.roll_out("twelve", "deploy/twelve")
    with recorded("a namespace with 12 pods goes"), figures.timed_with_calls("namespace with 12 pods deleted"):
        node.delete("namespace", "twelve")


def use(node: Node, figures: Figures, only: str) -> None:
    """All cases, and the end of what they have made."""
    for manifest in MANIFESTS:
        node.apply(manifest)
    for case in CASES:
        run_cases(case, only)
    times = figures.timed_with_calls("namespaces of the cases deleted")
    with suppress(AssertionError), recorded("the namespaces of the cases go"), times:
        node.delete("namespace", "work", "pods")


def pod_cgroups(runtime: Runtime) -> set[str]:
    """Those of the pods that are there. The kubelet makes them, and it is stopped when kubeadm resets the node: they stay."""
    def found() -> dict[str, str]:
        return {match.string: match[1] for match in map(POD_CGROUP.search, leftovers.holdings()["cgroup"]) if match}

    ready = json.loads(runtime.crictl("pods", "--state", "Ready", "-o", "json"))["items"]
    there = {pod["metadata"]["uid"] for pod in ready}
    with suppress(AssertionError), recorded("the cgroups of pods are those of the pods that are there"):
        until(lambda: set(found().values()) == there, PATIENCE, "no pod that has gone has a cgroup")
    return {path for path, uid in found().items() if uid in there}


def end(node: Node, figures: Figures) -> None:
    """The whole cluster is taken back."""
    with suppress(AssertionError), recorded("kubeadm reset ends, and the runtime has no sandbox"):
        with figures.timed("kubeadm reset"):
            print(node.reset(), flush=True)
        until(lambda: not node.runtime.crictl("pods", "-q").split(), PATIENCE, "the runtime has no sandbox")


if __name__ == "__main__":
    sys.exit(main())
