"""What is timed, and how it is shown: one run's seconds, or two runtimes' side by side, each of as many runs as there were."""

import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Figures:
    """Seconds by name, for one runtime. They are shown as they come, and kept for `table`; nothing depends on them.

    `calls` tells how many seconds the kubelet has waited for the runtime's answers until now.
    """

    def __init__(self, runtime: str, calls: Callable[[], float]) -> None:
        self.runtime = runtime
        self.seconds: dict[str, float] = {}
        self._calls = calls

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = seconds
        print(f"{name}: {seconds:.1f} s", flush=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.add(name, time.monotonic() - started)

    @contextmanager
    def timed_with_calls(self, name: str) -> Iterator[None]:
        """The same, and how much of it the runtime's answers took. Those at the same time count each."""
        calls = self._calls()
        with self.timed(name):
            yield
        self.add(f"{name}: calls of the runtime, added up", self._calls() - calls)

    def keep(self) -> None:
        """Beside those of the runs before."""
        path = folder() / f"{self.runtime}.json"
        runs = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*runs, self.seconds], indent=1) + "\n")


def folder() -> pathlib.Path:
    """Where the runs of one tier leave their figures for each other."""
    return pathlib.Path(os.environ["CORTEN_FIGURES"])


def table() -> str:
    """The figures of all runs in the folder: a column per runtime, with the runs in their order."""
    columns = {path.stem: json.loads(path.read_text()) for path in sorted(folder().glob("*.json"), reverse=True)}
    names = list(dict.fromkeys(name for runs in columns.values() for run in runs for name in run))
    head = ["seconds", *columns]
    rows = [[name, *(shown([run.get(name) for run in runs]) for runs in columns.values())] for name in names]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def shown(runs: list[float | None]) -> str:
    return ", ".join("–" if seconds is None else f"{seconds:.1f}" for seconds in runs)
