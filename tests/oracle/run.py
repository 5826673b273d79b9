#!/usr/bin/env python3
"""The oracle: every bundle of the grammar under corten-shim and under its peers; what is seen must be the same, or explained.

Usage: run.py --probe PROGRAM --shim "COMMAND…" --peer NAME LIST "COMMAND…" [--peer …] [--some | --only REGEX] [--show]

LIST is a file of this folder with the differences that are meant: they depend on the peer, and on the host's cgroups.
`--some` takes about half of the bundles, of each property one at least.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "lib"))
import compare  # noqa: E402
import grammar  # noqa: E402
import leftovers  # noqa: E402
import observe  # noqa: E402
import results  # noqa: E402
from bundle import Bundle  # noqa: E402


class Peer:
    """A runtime that the shim is held against, and what it may do otherwise."""

    def __init__(self, name: str, listed: str, command: str) -> None:
        self.runtime = observe.Runtime(name, command.split(), pathlib.Path(f"/run/o-{name}"))
        self.explanations = compare.Explanations(TESTS / "oracle" / listed)


class Oracle:
    """The shim and its peers, and where their bundles are."""

    def __init__(self, arguments: argparse.Namespace, scratch: pathlib.Path, holder: int) -> None:
        self.scratch = scratch
        self.show = arguments.show
        self.probe = scratch / "probe"
        shutil.copy(arguments.probe, self.probe)
        self.shim = observe.Runtime("shim", arguments.shim.split(), pathlib.Path("/run/o-shim"))
        self.peers = [Peer(*words) for words in arguments.peer]
        self.joined = {kind: os.readlink(f"/proc/{holder}/ns/{kind}") for kind in compare.KINDS}

    def facts(self, runtime: observe.Runtime, number: int, changes: list) -> tuple[dict[str, str], str]:
        """What is seen under one runtime, and what it said."""
        directory = self.scratch / "bundles" / f"{number}-{runtime.name}"
        directory.mkdir(parents=True)
        container = f"oracle-{number}-{runtime.name}"
        bundle = Bundle(directory, self.probe, f"{number}-{runtime.name}")
        bundle.set("/linux/cgroupsPath", f"/{container}")
        for change in changes:
            change(bundle)
        try:
            seen = runtime.run(bundle, container)
            said = seen.get("said", "")
            return compare.plain(seen, bundle, container, self.joined), said
        finally:
            if runtime is not self.shim:
                observe.unmount_below(directory)
            shutil.rmtree(directory, ignore_errors=True)
            observe.remove_cgroup(container)

    def judge(self, number: int, name: str, changes: list) -> None:
        """One bundle, under all of them."""
        try:
            shim = self.facts(self.shim, number, changes)
            for peer in self.peers:
                self.hold(name, shim, self.facts(peer.runtime, number, changes), peer)
        except Exception:  # noqa: BLE001 one case that goes wrong is one failure
            results.record("fail", name, traceback.format_exc(limit=3))

    def hold(self, name: str, shim: tuple, theirs: tuple, peer: Peer) -> None:
        """What was seen and said under the shim against the same of a peer. Among several, the verdict names the peer."""
        found, meant = sort_out(name, shim[0], theirs[0], peer)
        other = peer.runtime.name
        verdict = f"{name} ({other})" if len(self.peers) > 1 else name
        if self.show or found:
            shown = found + ([f"(meant) {line}" for line in meant] if self.show else [])
            heads = [f"shim: {shim[0].get('outcome')} {shim[1]}", f"{other}: {theirs[0].get('outcome')} {theirs[1]}"]
            # At once: there are two threads.
            print("\n   ".join([f"== {verdict}", *heads, *shown]) + "\n", flush=True)
        results.record("fail" if found else "pass", verdict, "; ".join(found)[:2000])


def sort_out(name: str, shim: dict[str, str], theirs: dict[str, str], peer: Peer) -> tuple[list[str], list[str]]:
    """The differences that nothing explains, and the others with their reasons."""
    all_of = compare.differences(shim, theirs)
    if shim.get("outcome") != theirs.get("outcome"):
        # One of them has seen nothing, and had no cgroup to leave.
        all_of = [one for one in all_of if one[0] == "outcome" or one[0].startswith("trace")]
    found, meant = [], []
    for field, one, other in all_of:
        reason = peer.explanations.explain(name, field, one, other)
        line = f"{field}: shim {one!r}, {peer.runtime.name} {other!r}"
        (meant if reason else found).append(line + (f"  # {reason}" if reason else ""))
    return found, meant


def hold_namespaces() -> subprocess.Popen:
    """A process whose namespaces can be joined by their paths."""
    command = ["unshare", "--net", "--ipc", "--uts", "--cgroup", "--time", "--monotonic", "3600", "--pid", "--fork", "--kill-child"]
    holder = subprocess.Popen([*command, "sh", "-c", "hostname joined; echo; exec sleep 3600"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    return holder


def held_by(holder: subprocess.Popen) -> int:
    """The process in the namespaces: the child of the one that has made them."""
    children = pathlib.Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
    return int(children[0])


@contextlib.contextmanager
def deep_tree():
    """A tree with a mount below its top."""
    deep = pathlib.Path("/run/oracle-deep")
    below = deep / "below"
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711,size=64k", "deep", below], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", below], check=True)
        below.rmdir()
        deep.rmdir()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", required=True)
    parser.add_argument("--shim", required=True)
    parser.add_argument("--peer", required=True, action="append", nargs=3, metavar=("NAME", "LIST", "COMMAND"))
    parser.add_argument("--only", default="")
    parser.add_argument("--some", action="store_true")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    # runc hands on what its caller ignores, and a shell's background jobs ignore this one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="oracle."))
    scratch.chmod(0o755)
    cases = [(number, *case) for number, case in enumerate(grammar.some_cases() if arguments.some else grammar.all_cases())]
    wanted = [case for case in cases if re.search(arguments.only, case[1])]
    before = leftovers.holdings()
    holder = hold_namespaces()
    try:
        os.environ["ORACLE_HOLDER"] = str(held_by(holder))
        oracle = Oracle(arguments, scratch, held_by(holder))
        with deep_tree(), ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda case: oracle.judge(*case), wanted))
    finally:
        holder.kill()
        holder.wait()
    observe.remove_cgroup("corten")
    observe.remove_what_is_left()
    if not arguments.only and not arguments.some:
        for peer in oracle.peers:
            for line in peer.explanations.unused():
                results.record("fail", f"every explanation explains something ({peer.runtime.name})", line)
    leftovers.check("the oracle", before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
