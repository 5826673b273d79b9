#!/usr/bin/env python3
"""Pods that come and go in numbers. Inside a node.

Churn: 8 clients make and remove pods while the daemon is killed every 15 s (short form: 60 s, --full: 10 minutes).
What was acknowledged is never missing, and when they are done nothing is left.
Crowd: 100 pods with 2 containers each come up, are listed, and go; the node is as after one pod.

Usage: churn/run.py [--full] [--only churn|crowd]
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import sys
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "churn")]
import invariants  # noqa: E402
import leftovers  # noqa: E402
import registry  # noqa: E402
from clients import Client, Ledger, ask  # noqa: E402
from results import record  # noqa: E402
from runtimes import Corten  # noqa: E402

CLIENTS = 8
BETWEEN_KILLS = 15
SHORT, FULL = 60, 600
PODS, CONTAINERS = 100, 2
SCRATCH = pathlib.Path(os.environ.get("CORTEN_NODE", "/nonexistent"), "churn")


def churn(runtime: Corten, seconds: int) -> None:
    ledger, over = Ledger(), threading.Event()
    clients = [Client(number, SCRATCH, ledger, over) for number in range(CLIENTS)]
    begun = time.monotonic()
    for client in clients:
        client.start()
    kills = 0
    while (left := begun + seconds - time.monotonic()) > 0:
        # Time is what passes here, and no condition: this is how often the daemon is killed.
        time.sleep(min(BETWEEN_KILLS, left))
        runtime.service.kill()
        runtime.service.restart()
        runtime.await_ready()
        kills += 1
        ledger.compare(runtime.crictl)
    over.set()
    for client in clients:
        client.join()
    print(f"{ledger.lives} pods in {time.monotonic() - begun:.0f} s, {kills} kills, {len(ledger.wrongs)} wrong", flush=True)
    told(f"{seconds} s of {CLIENTS} clients and a kill every {BETWEEN_KILLS} s: nothing acknowledged is missing",
         "" if ledger.lives else "no pod lived at all", *ledger.wrongs)
    told("after the churn, the host agrees with what Corten says", invariants.report(runtime))


def told(name: str, *wrongs: str) -> None:
    wrongs = [wrong for wrong in wrongs if wrong]
    record("fail" if wrongs else "pass", name, "; ".join(wrongs[:4])[:300])


def crowd(runtime: Corten) -> None:
    """Each step for all pods before the next: at the top all are there at once."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        begun = time.monotonic()
        pods = list(pool.map(make_pod, range(PODS)))
        up = time.monotonic()
        ready = runtime.crictl("pods", "-q", "--no-trunc", "--state", "Ready").split()
        running = runtime.crictl("ps", "-q", "--no-trunc", "--state", "Running").split()
        lists = time.monotonic()
        told(f"{PODS} pods with {CONTAINERS} containers each are up and listed",
             "" if sorted(ready) == sorted(pods) else f"{len(ready)} pods are ready",
             "" if len(running) == PODS * CONTAINERS else f"{len(running)} containers run")
        told("with all of them there, the host agrees with what Corten says", invariants.report(runtime))
        down = time.monotonic()
        list(pool.map(remove_pod, pods))
        print(f"up in {up - begun:.1f} s, both lists in {lists - up:.2f} s, gone in {time.monotonic() - down:.1f} s", flush=True)


def make_pod(number: int) -> str:
    folder = SCRATCH / f"crowd-{number}"
    folder.mkdir(parents=True)
    pod = folder / "pod.json"
    pod.write_text(json.dumps({
        "metadata": {"name": f"crowd-{number}", "namespace": "churn", "uid": f"crowd-{number}", "attempt": 1},
        "hostname": "crowd", "log_directory": str(folder), "linux": {},
    }))
    sandbox = ask("runp", str(pod))
    for name in range(CONTAINERS):
        container = folder / f"{name}.json"
        container.write_text(json.dumps({
            "metadata": {"name": f"c{name}"}, "image": {"image": leftovers.IMAGE}, "command": ["sleep", "1000"],
            "log_path": f"{name}.log", "linux": {"security_context": {"namespace_options": {"pid": 1}}},
        }))
        ask("start", ask("create", "--no-pull", sandbox, str(container), str(pod)))
    return sandbox


def remove_pod(sandbox: str) -> None:
    ask("stopp", sandbox)
    ask("rmp", sandbox)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", choices=("churn", "crowd"))
    options = parser.parse_args()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtime = Corten()
    leftovers.warm_up(runtime)
    before = leftovers.holdings(runtime.state_folders)
    if options.only != "churn":
        crowd(runtime)
        leftovers.check("the crowd", before, runtime.state_folders)
    if options.only != "crowd":
        churn(runtime, FULL if options.full else SHORT)
        leftovers.check("the churn", before, runtime.state_folders)
    runtime.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
