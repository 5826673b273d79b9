#!/usr/bin/env python3
"""Every request x every failpoint x {error, daemon killed, shim killed}. Inside a node, on programs with failpoints.

In each cell the request is made, meets its fault, and is made again as a kubelet does. It must succeed then, or say
why not in a way that a kubelet knows what to do. The host and what Corten says must agree, and when all is removed
nothing is left. One cell is one test.

Usage: matrix/run.py [--only REGEX]    a cell is POINT, FAULT
"""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import sys
import time
import traceback

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "matrix")]
import invariants  # noqa: E402
import leftovers  # noqa: E402
import points  # noqa: E402
import registry  # noqa: E402
import verbs  # noqa: E402
from results import record  # noqa: E402
from runtimes import Corten  # noqa: E402
from wait import until  # noqa: E402

# The daemon and its shims look here; see shim/src/failpoint.rs.
SWITCHES = pathlib.Path(os.environ.get("CORTEN_NODE", "/nonexistent"), "failpoints")
SCRATCH = SWITCHES.parent / "matrix"
REACHED = 20
ENDS = 60


class Cell:
    """One request that meets one fault at one point."""

    def __init__(self, runtime: Corten, number: int, point: str, fault: str) -> None:
        self.runtime, self.point, self.fault = runtime, point, fault
        self.switch = SWITCHES / point
        self.hit = self.switch.with_suffix(".hit")
        kind = verbs.REQUESTS[points.request_of(point)]
        self.request = kind(runtime, SCRATCH, f"cell-{number}", point)
        self.call = None

    def play(self) -> None:
        """Raises AssertionError with what is wrong."""
        self.arm()
        self.call = self.request.begin()
        until(self.hit.exists, REACHED, f"{self.point} is reached")
        self.strike()
        self.call.communicate(timeout=ENDS)
        self.come_back()
        self.hit.unlink(missing_ok=True)
        self.request.repeat()
        differences = invariants.report(self.runtime)
        verbs.check(not differences, differences)

    @property
    def action(self) -> str:
        """What the process that passes the point does itself; the other one is killed while it waits."""
        if self.fault == points.ERROR:
            return "error"
        itself = points.SHIM if points.is_shims(self.point) else points.DAEMON
        return "kill" if self.fault == itself and self.point not in points.CLONES else "pause"

    def arm(self) -> None:
        self.switch.parent.mkdir(parents=True, exist_ok=True)
        self.hit.unlink(missing_ok=True)
        beside = self.switch.with_suffix(".new")
        beside.write_text(self.action)
        beside.rename(self.switch)

    def strike(self) -> None:
        if self.action != "pause":
            return
        if self.fault == points.DAEMON:
            self.runtime.service.kill()
        else:
            clones = verbs.clones()
            victims = verbs.all_shims() or verbs.holders() or invariants.vacant_shims()
            verbs.check(bool(victims), "no shim is there to be killed")
            verbs.check(bool(clones) or self.point not in points.CLONES, "no clone of the shim is there, whose end could be seen")
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):  # one may have gone with another
                    os.kill(pid, signal.SIGKILL)
            # They wait at the point for ever, as at a volume that does not answer: somebody ends them.
            until(lambda: not any(pid in verbs.all_shims() for pid in clones), REACHED, "what the shim had cloned is gone")
        self.hit.unlink()

    def come_back(self) -> None:
        if self.fault == points.DAEMON:
            until(lambda: not self.runtime.service.running(), REACHED, "the daemon is dead")
            self.runtime.service.restart()
            self.runtime.await_ready()

    def clear(self) -> None:
        """Whatever happened: nothing is armed, a daemon runs, nothing of the cell is left."""
        self.switch.unlink(missing_ok=True)
        self.hit.unlink(missing_ok=True)
        if self.call:
            self.call.communicate(timeout=ENDS)
        if not self.runtime.service.running():
            self.runtime.service.restart()
            self.runtime.await_ready()
        self.request.remove()


def play(cell_of, before: leftovers.Holdings, runtime: Corten) -> str:
    """The cell's fault, in words; empty where it holds."""
    wrong = []
    cell = None
    try:
        cell = cell_of()
        cell.play()
    except Exception as error:  # noqa: BLE001  (a cell that breaks is a cell that fails)
        traceback.print_exc()
        wrong.append(str(error) or type(error).__name__)
    try:
        if cell:
            cell.clear()
        left = leftovers.left_over(before, runtime.state_folders)
        wrong += [f"left: {', '.join(left[:6])}"] if left else []
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        wrong.append(f"clearing: {error}")
    return "; ".join(wrong)


def table(cells: dict[tuple[str, str], str]) -> str:
    width = max(len(point) for point, _ in cells)
    lines = ["".join([" " * width, *(f"  {fault:13}" for fault in points.FAULTS)])]
    for point in dict.fromkeys(point for point, _ in cells):
        marks = [{None: "-", "": "holds"}.get(cells.get((point, fault)), "BROKEN") for fault in points.FAULTS]
        lines.append("".join([f"{point:{width}}", *(f"  {mark:13}" for mark in marks)]))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    SWITCHES.mkdir()
    os.environ["CORTEN_FAILPOINTS"] = str(SWITCHES)
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtime = Corten()
    leftovers.warm_up(runtime)
    before = leftovers.holdings(runtime.state_folders)
    cells: dict[tuple[str, str], str] = {}
    begun = time.monotonic()
    for point in points.all_points(TESTS.parent):
        for fault in points.faults_at(point):
            if not re.search(options.only, f"{point}, {fault}"):
                continue
            started = time.monotonic()
            number = len(cells)
            wrong = play(lambda: Cell(runtime, number, point, fault), before, runtime)
            if wrong:
                # What it has left is not the next one's.
                before = leftovers.holdings(runtime.state_folders)
            cells[point, fault] = wrong
            record("fail" if wrong else "pass", f"{point}, {fault}", wrong[:300])
            print(f"{time.monotonic() - started:6.2f} s  {point}, {fault}: {wrong or 'holds'}", flush=True)
    print(table(cells), f"{len(cells)} cells in {time.monotonic() - begun:.0f} s", sep="\n", flush=True)
    runtime.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
