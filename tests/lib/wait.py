"""Awaiting: a condition is asked for until it holds or its deadline has passed. Nothing here sleeps and hopes."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
STEP = 0.05


class Late(AssertionError):
    """The condition did not hold in time; the message has what was seen last."""


def until(condition: Callable[[], Value], seconds: float, what: str) -> Value:
    """Gives the first truthy answer of `condition`. An exception of it counts as "not yet"."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            seen = condition()
            if seen:
                return seen
        except Exception as error:  # noqa: BLE001  (whatever it is, it is shown when time is up)
            seen = error
        if time.monotonic() > deadline:
            raise Late(f"{what}: not within {seconds:g} s; last seen: {seen!r}")
        time.sleep(STEP)
