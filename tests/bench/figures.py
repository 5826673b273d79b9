"""Samples by operation, and the table of their medians side by side."""

import json
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping

from service import log_folder

Samples = dict[str, list[int]]


def in_turns(runtimes: Iterable[str], rounds: int, measure: Callable[[str, int], Samples], name: str) -> None:
    """Measures every runtime once a round, by its name and the round's number; shows the medians and writes every sample."""
    samples: dict[str, Samples] = {runtime: {} for runtime in runtimes}
    for number in range(rounds):
        for runtime, so_far in samples.items():
            print(f"round {number + 1}: {runtime}", file=sys.stderr, flush=True)
            add(so_far, measure(runtime, number))
    show(samples)
    outcome = pathlib.Path(log_folder(), f"{name}.json")
    outcome.write_text(json.dumps(samples, indent=1))
    print(f"\nevery sample (ns, bytes): {outcome}")


def add(samples: Samples, more: Mapping[str, list[int]], suffix: str = "") -> None:
    for operation, values in more.items():
        samples.setdefault(operation + suffix, []).extend(values)


def show(samples: dict[str, Samples]) -> None:
    """A line for each operation: each runtime's median, and the last one's beside the first one's."""
    names = list(samples)
    width = max((len(op) for name in names for op in samples[name]), default=0) + 2
    print(f"{'median, ms (bytes: MB)':<{width}}" + "".join(f"{name:>14}" for name in names) + f"{names[-1]}/{names[0]}".rjust(20))
    for operation in {op: None for name in names for op in samples[name]}:
        values = [median(samples[name].get(operation)) for name in names]
        cells = "".join(f"{'–':>14}" if value is None else f"{value:>14.2f}" for value in values)
        ratio = f"{values[-1] / values[0]:>20.3f}" if None not in values and values[0] else f"{'–':>20}"
        print(f"{operation:<{width}}{cells}{ratio}")


def median(values: list[int] | None) -> float | None:
    """Of nanoseconds in ms, of bytes in MB."""
    return statistics.median(values) / 1e6 if values else None
