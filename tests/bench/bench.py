#!/usr/bin/env python3
"""All figures, side by side: see the tier `bench`, which prepares the node.

In each round each group is measured on one runtime after the other (A B A B), so that whatever else happens on the host
happens to all of them. What cannot be measured is said in words.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "streaming")]
import leftovers  # noqa: E402
import printed  # noqa: E402
import registry  # noqa: E402
import runtimes  # noqa: E402
from groups import GROUPS, PEERS  # noqa: E402
from peers import RUNTIMES, Absent, bundled_plugins_are_there, low_runtime  # noqa: E402
from processor import Others  # noqa: E402
from results import record  # noqa: E402
from rows import BUNDLED, FULL, HOST, QUICK, rows  # noqa: E402
from service import log_folder  # noqa: E402
from table import OURS, Outcome, Row, outcome  # noqa: E402

Recorded = dict[str, dict[str, list[list[float]]]]
# Above this part of all processors used by others, no figure is worth much.
LOUD = 0.05
UNWANTED = "not asked for"


class Bench:
    """The runtimes that are there, what was measured, and why anything was not."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sizes = QUICK if options.quick else FULL
        self.recorded: Recorded = defaultdict(lambda: defaultdict(list))
        self.absent: dict[str, str] = {}
        self.failed: dict[tuple[str, str], str] = {}
        self.others = Others()

    def look(self) -> None:
        """Starts each runtime once with a pod: who cannot even do that is not measured."""
        for name in (*PEERS, OURS, BUNDLED):
            reason = self.obstacle(name)
            if reason:
                self.absent[name] = reason
                if reason != UNWANTED:
                    say(f"{name} is not measured: {reason}")
        if OURS in self.absent and OURS in self.options.runtimes:
            raise SystemExit(f"Corten does not start: {self.absent[OURS]}")

    def obstacle(self, name: str) -> str:
        if name not in (*self.options.runtimes, BUNDLED):
            return UNWANTED
        if name == BUNDLED and not bundled_plugins_are_there():
            return "the bundled plugins (corten-cni) are not in these programs"
        return tried(name)

    def run(self) -> None:
        for number in range(self.options.rounds):
            for name in self.options.only:
                if number < GROUPS[name].rounds:
                    self.group(name, number)

    def group(self, name: str, number: int) -> None:
        for runtime in GROUPS[name].runtimes:
            if runtime not in self.absent and (name, runtime) not in self.failed:
                say(f"round {number + 1}, {name}: {runtime}")
                self.measure(name, runtime)

    def measure(self, name: str, runtime: str) -> None:
        """What fails once is not tried again: its reason is told, and all else goes on."""
        try:
            for operation, values in GROUPS[name].measure(runtime, self.sizes).items():
                self.recorded[runtime][qualified(name, operation)].append(values)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever it is, it is told)
            self.failed[name, runtime] = reason(error)
            say(f"{name} on {runtime}: {reason(error)}")

    def outcomes(self) -> list[Outcome]:
        return [outcome(placed(row, name), self.recorded, self.peers(), HOST)
                for name, wanted in rows(self.sizes).items() if name in self.options.only for row in wanted]

    def peers(self) -> list[str]:
        return [name for name in PEERS if name not in self.absent]

    def notes(self) -> list[str]:
        """Whatever a reader of the table has to know."""
        notes = [f"{name} is not measured: {why}." for name, why in self.absent.items() if why != UNWANTED]
        notes += [f"{group} on {name}: not measured: {why}" for (group, name), why in self.failed.items()]
        noisy = [one.row.title for one in self.outcomes() if any(cell.noisy for cell in one.cells.values())]
        if noisy:
            notes.append(f"NOISY, the rounds are too far apart: {len(noisy)} of {len(self.outcomes())} rows (marked ~).")
        if self.options.rounds < 2:
            notes.append("One round alone: how far rounds would be apart is not known.")
        share = self.others.share()
        loud = "NOISY: " if share > LOUD else ""
        notes.append(f"{loud}Other work on the host used {share:.0%} of its processors meanwhile.")
        return notes


def main() -> int:
    options = arguments()
    os.environ["CORTEN_IMAGES"] = str(merged("CORTEN_IMAGES", "CORTEN_BIG_IMAGES"))
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtimes.write_conflist()
    bench = Bench(options)
    bench.look()
    bench.run()
    tell(bench)
    return 0


def qualified(group: str, operation: str) -> str:
    """Groups measure operations of one name, and not the same."""
    return f"{group}: {operation}"


def placed(row: Row, group: str) -> Row:
    """The row, and what it is held against, under the names of their groups."""
    return replace(row, operation=qualified(group, row.operation), over=row.over and qualified("plugins", row.over),
                   floor=row.floor and qualified("floor", row.floor))


def arguments() -> argparse.Namespace:
    words = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, one round: for a look")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--only", type=words, default=list(GROUPS), help="groups of rows: " + ", ".join(GROUPS))
    parser.add_argument("--runtimes", type=words, default=[*PEERS, OURS])
    parser.add_argument("--markdown", action="store_true", help="the rows that have goals, as a README has them")
    options = parser.parse_args()
    for group in options.only:
        if group not in GROUPS:
            parser.error(f"no group {group}; there are: {', '.join(GROUPS)}")
    for name in options.runtimes:
        if name not in RUNTIMES:
            parser.error(f"no runtime {name}; there are: {', '.join(RUNTIMES)}")
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def merged(*folders: str) -> pathlib.Path:
    """The images of the folders that these variables name, as one registry's data."""
    place = pathlib.Path(os.environ["CORTEN_NODE"], "images/registry")
    place.mkdir(parents=True)
    lower = ":".join(os.environ[name] + "/registry" for name in folders)
    subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={lower}", "overlay", place], check=True)
    return place.parent


def tried(name: str) -> str:
    """Why the runtime cannot run a pod here, or nothing."""
    try:
        runtime = RUNTIMES[name]()
    except (Absent, AssertionError, OSError, SystemExit) as error:
        return reason(error)
    try:
        leftovers.warm_up(runtime)
    except AssertionError as error:
        return reason(error)
    finally:
        runtime.stop()
    return ""


def reason(error: BaseException) -> str:
    """In one line: the end of a log says most."""
    words = " ".join(str(error).split()) or type(error).__name__
    fatal = re.search(r'level=fatal msg="(.*)"', words)
    words = fatal[1] if fatal else words
    return words if len(words) < 600 else words[:200] + " … " + words[-400:]


def tell(bench: Bench) -> None:
    """The table to whoever looks on, all of it to a file, a line for each row to tests/run."""
    outcomes, notes, facts = bench.outcomes(), bench.notes(), host(bench)
    if bench.options.markdown:
        shown = markdown([one for one in outcomes if one.has_goal], bench.peers(), notes, facts)
    else:
        shown = text(outcomes, bench.peers(), notes, facts)
    print(shown)
    folder = pathlib.Path(log_folder())
    (folder / "shown").write_text(shown + "\n")
    (folder / "bench.md").write_text(markdown(outcomes, bench.peers(), notes, facts) + "\n")
    document = {"host": facts, "notes": notes, "rows": list(map(printed.as_object, outcomes)), "samples": bench.recorded}
    (folder / "bench.json").write_text(json.dumps(document, indent=1))
    for one in outcomes:
        record_row(one, bench)


def text(outcomes: Sequence[Outcome], peers: Sequence[str], notes: Sequence[str], facts: Mapping[str, str]) -> str:
    told = "\n".join(f"{key}: {value}" for key, value in facts.items())
    return "\n\n".join([told, printed.as_text(outcomes, peers), printed.LEGEND, "\n".join(notes)])


def markdown(outcomes: Sequence[Outcome], peers: Sequence[str], notes: Sequence[str], facts: Mapping[str, str]) -> str:
    """A section of a README."""
    told = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    listed = "\n".join(f"- {note}" for note in notes)
    return "\n\n".join(["## Figures", told, printed.as_markdown(outcomes, peers), printed.LEGEND, listed])


def record_row(one: Outcome, bench: Bench) -> None:
    """A goal that is missed is in the table, and no failure: hosts differ. What should have been measured and was not is."""
    if one.ours is not None or (one.cells and one.row.ours == HOST):
        record("pass", one.row.title)
    elif one.row.ours in bench.absent:
        record("skip", one.row.title, bench.absent[one.row.ours])
    else:
        record("fail", one.row.title, "; ".join(bench.failed.values()) or "nothing was measured")


def host(bench: Bench) -> dict[str, str]:
    words = ["tests/run", "bench", *sys.argv[1:]]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "host": f"Linux {platform.release()}, {os.cpu_count()} processors ({processor_model()}), {cgroups()}",
        "command": shlex.join(words) + f" (rounds: {bench.options.rounds})",
        "runtimes": "; ".join(version(name) for name in (*bench.peers(), OURS)),
    }


def processor_model() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def cgroups() -> str:
    return "cgroup v1" if list(pathlib.Path("/sys/fs/cgroup").glob("*/cpuacct.usage")) else "cgroup v2"


def version(name: str) -> str:
    programs = {
        "containerd": ("containerd", "runc"), "containerd+crun": ("containerd", "crun"),
        "cri-o": ("crio", "conmon", low_runtime()), "corten": (os.path.join(os.environ["CORTEN_DIST"], "corten"),),
    }[name]
    said = [subprocess.run([one, "--version"], capture_output=True, text=True, check=False).stdout for one in programs]
    # Without the path of a Go module, and without what is said twice.
    return " + ".join(re.sub(r"\S+/\S+ | version\b", "", text.splitlines()[0]).strip() for text in said if text)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
