"""Samples by operation, and the table of their medians side by side."""

import statistics
from collections.abc import Mapping

Samples = dict[str, list[int]]


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
