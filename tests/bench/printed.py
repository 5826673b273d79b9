"""The table as text, as Markdown and as JSON. Pure."""

from collections.abc import Mapping, Sequence

from table import BEST, NOISY, OURS, Cell, Outcome, bound, shown

NOTHING = "–"
HEAD = "median / p95"
LEGEND = (
    f"Cells: median / 95th percentile; ~ where the rounds' medians are more than {NOISY:.0%} of the median apart. "
    "Better: how many times, than the best peer of that row. Floor: what the kernel alone takes for the same steps "
    "(tests/bench/floor), and how many of them Corten takes."
)


def lines(outcomes: Sequence[Outcome], peers: Sequence[str]) -> list[list[str]]:
    """The table's cells, its head first."""
    head = [HEAD, *peers, "Corten", "better", "goal", "reached", "floor"]
    return [head, *(line(one, peers) for one in outcomes)]


def line(one: Outcome, peers: Sequence[str]) -> list[str]:
    unit = f", {one.row.unit.name}" if one.row.unit.name else ""
    figures = [figure(one.cells.get(name)) for name in (*peers, OURS)]
    return [one.row.title + unit, *figures, better(one), goal(one), reached(one), floor(one)]


def figure(cell: Cell | None) -> str:
    if cell is None:
        return NOTHING
    both = shown(cell.median) if cell.samples == 1 else f"{shown(cell.median)} / {shown(cell.p95)}"
    return both + (" ~" if cell.noisy else "")


def better(one: Outcome) -> str:
    ratio = one.ratio(BEST)
    return NOTHING if ratio is None else f"{shown(ratio)}×"


def goal(one: Outcome) -> str:
    words = [] if one.limit is None else [f"{bound(one.row)} {shown(one.limit)}"]
    words += [f"{wanted:g}×" + ("" if peer == BEST else f" {peer}") for peer, wanted in one.row.times.items()]
    return ", ".join(words) or NOTHING


def reached(one: Outcome) -> str:
    if one.ours is None or goal(one) == NOTHING:
        return NOTHING
    missed = one.missed()
    return "no: " + ", ".join(missed) if missed else "yes"


def floor(one: Outcome) -> str:
    if one.floor is None:
        return NOTHING
    return shown(one.floor) + (f" ({shown(one.ours.median / one.floor)}×)" if one.ours and one.floor else "")


def as_text(outcomes: Sequence[Outcome], peers: Sequence[str]) -> str:
    table = lines(outcomes, peers)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(padded(row, widths)).rstrip() for row in table)


def padded(row: list[str], widths: list[int]) -> list[str]:
    return [text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths))]


def as_markdown(outcomes: Sequence[Outcome], peers: Sequence[str]) -> str:
    head, *rest = lines(outcomes, peers)
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, rule, *rest))


def as_object(one: Outcome) -> dict:
    """What a program wants to know of a row."""
    return {
        "row": one.row.title, "operation": one.row.operation, "unit": one.row.unit.name,
        "runtimes": {name: numbers(cell) for name, cell in one.cells.items()},
        "best": one.best, "better": one.ratio(BEST), "limit": one.limit, "times": dict(one.row.times),
        "missed": one.missed(), "floor": one.floor,
    }


def numbers(cell: Cell) -> Mapping[str, float | int | bool | None]:
    return {"median": cell.median, "p95": cell.p95, "spread": cell.spread, "samples": cell.samples, "noisy": cell.noisy}
