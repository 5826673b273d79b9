"""What samples say, row by row: medians, 95th percentiles, how far the rounds are apart, ratios and goals. Pure.

Samples are by runtime and operation a list of rounds, each a list of nanoseconds, bytes or counts.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Rounds = list[list[float]]
Recorded = Mapping[str, Mapping[str, Rounds]]

# Rounds whose medians are further apart than this part of the median are no basis for a second digit.
NOISY = 0.25
OURS = "corten"
BEST = "the best"


@dataclass(frozen=True)
class Unit:
    """How a sample is shown. Of a rate more is better; its samples are the nanoseconds of one."""

    name: str
    of: Callable[[float], float]
    more_is_better: bool = False


MILLISECONDS = Unit("ms", lambda value: value / 1e6)
SECONDS = Unit("s", lambda value: value / 1e9)
MEGABYTES = Unit("MB", lambda value: value / 1e6)
RATE = Unit("/s", lambda value: 1e9 / value, more_is_better=True)
# Samples in thousandths, so that they are whole numbers as all others are.
PLAIN = Unit("", lambda value: value / 1e3)


@dataclass(frozen=True)
class Row:
    """An operation, and what is wanted of it: at most `limit`, or so much more than the operation `over` of the same run;
    `times` better than a peer, by its name, or than the best."""

    title: str
    operation: str
    unit: Unit = MILLISECONDS
    limit: float | None = None
    over: str | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    ours: str = OURS
    floor: str | None = None


@dataclass(frozen=True)
class Cell:
    """One runtime's figures in one row, in its unit. `spread`: none of one round alone."""

    median: float
    p95: float
    spread: float | None
    samples: int

    @property
    def noisy(self) -> bool:
        return self.spread is not None and self.spread > NOISY


@dataclass(frozen=True)
class Outcome:
    """A row that was measured: the cells by runtime, ours under OURS whichever of ours it is."""

    row: Row
    cells: Mapping[str, Cell]
    best: str | None
    floor: float | None
    limit: float | None

    @property
    def ours(self) -> Cell | None:
        return self.cells.get(OURS)

    @property
    def has_goal(self) -> bool:
        return self.row.limit is not None or bool(self.row.times)

    def ratio(self, peer: str | None) -> float | None:
        """How many times ours is better."""
        peer = self.best if peer == BEST else peer
        if self.ours is None or peer not in self.cells:
            return None
        one, other = self.cells[peer].median, self.ours.median
        return quotient(other, one) if self.row.unit.more_is_better else quotient(one, other)

    def missed(self) -> list[str]:
        """The goals that are not reached, in words; none of a row that has no goal."""
        if self.ours is None:
            return []
        limit = [] if self.limit is None else [f"{bound(self.row)} {shown(self.limit)} {self.row.unit.name}".rstrip()]
        words = [] if limit and self._within() else limit
        for peer, wanted in self.row.times.items():
            ratio = self.ratio(peer)
            if ratio is not None and ratio < wanted:
                words.append(f"{wanted:g}× {peer}")
        return words

    def _within(self) -> bool:
        better = self.row.unit.more_is_better
        return self.ours.median >= self.limit if better else self.ours.median <= self.limit


def outcome(row: Row, recorded: Recorded, peers: Iterable[str], aside: str) -> Outcome:
    """`aside`: under which name there is what no runtime did: the kernel's floor, the plugins alone."""
    cells = {name: cell(row.unit, recorded.get(name, {}).get(row.operation)) for name in peers}
    cells[OURS] = cell(row.unit, recorded.get(row.ours, {}).get(row.operation))
    there = {name: one for name, one in cells.items() if one is not None}
    of_aside = recorded.get(aside, {})
    floor = cell(row.unit, of_aside.get(row.floor)) if row.floor else None
    over = cell(row.unit, of_aside.get(row.over)) if row.over else None
    limit = row.limit
    if row.over is not None and limit is not None:
        limit = None if over is None else limit + over.median
    return Outcome(row, there, best(row.unit, there), floor and floor.median, limit)


def cell(unit: Unit, rounds: Rounds | None) -> Cell | None:
    values = [unit.of(value) for one in rounds or () for value in one]
    if not values:
        return None
    medians = [statistics.median(map(unit.of, one)) for one in rounds if one]
    return Cell(statistics.median(values), p95(values, unit.more_is_better), spread(medians), len(values))


def p95(values: Iterable[float], more_is_better: bool) -> float:
    """What 95 in a hundred are no worse than (nearest rank)."""
    ordered = sorted(values, reverse=more_is_better)
    return ordered[math.ceil(0.95 * len(ordered)) - 1]


def spread(medians: list[float]) -> float | None:
    """How far the rounds' medians are apart, as a part of the middle one."""
    if len(medians) < 2:
        return None
    middle = statistics.median(medians)
    return (max(medians) - min(medians)) / middle if middle else 0.0


def best(unit: Unit, cells: Mapping[str, Cell]) -> str | None:
    peers = [name for name in cells if name != OURS]
    choose = max if unit.more_is_better else min
    return choose(peers, key=lambda name: cells[name].median) if peers else None


def quotient(one: float, other: float) -> float | None:
    return one / other if other else None


def bound(row: Row) -> str:
    return "≥" if row.unit.more_is_better else "≤"


def shown(value: float) -> str:
    """Three digits that say something."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"
