"""The cases: each dimension of a spec has alternatives, each of which is a case by itself; then combinations of them.

An alternative is a name and a function that changes a bundle. `combinations` draws one alternative from each of some
dimensions, by a fixed seed: what goes wrong between two fields is found there.
"""

import random

import cases_hooks
import cases_limits
import cases_listener
import cases_mounts
import cases_process
import cases_refused

SEED = 20260
COMBINATIONS = 64


def dimensions() -> dict:
    return {
        **cases_process.DIMENSIONS,
        **cases_mounts.DIMENSIONS,
        **cases_limits.DIMENSIONS,
        **cases_hooks.DIMENSIONS,
        "listener": cases_listener.DIMENSIONS["listener"],
        "refused": {**cases_refused.DIMENSIONS["refused"], **cases_listener.DIMENSIONS["refused"]},
    }


def singles() -> list:
    """The template itself, and each alternative alone."""
    found = [("template", [])]
    for dimension, alternatives in dimensions().items():
        found += [(f"{dimension}: {name}", [change]) for name, change in alternatives.items()]
    return found


def combinations() -> list:
    """Several dimensions at once."""
    draw = random.Random(SEED)
    free = {name: list(all_of.items()) for name, all_of in dimensions().items() if name in COMBINABLE}
    found = []
    for number in range(COMBINATIONS):
        names = draw.sample(sorted(free), 5)
        picked = [(name, *draw.choice(free[name])) for name in names]
        title = " + ".join(f"{name}: {alternative}" for name, alternative, _ in picked)
        found.append((f"{number:02} {title}", [change for _, _, change in picked]))
    return found


COMBINABLE = (
    "user", "capabilities", "privileges", "rlimits", "environment", "directory", "umask", "oom", "personality",
    "priority", "root", "propagation", "bind", "tmpfs", "paths", "device", "rules", "names", "sysctl", "filter", "cpu",
    "memory", "pids", "namespace",
)  # fmt: skip


def all_cases() -> list:
    return singles() + combinations()


def some_cases() -> list:
    """The template, every other alternative of each dimension, and a quarter of the combinations."""
    found = [("template", [])]
    for dimension, alternatives in dimensions().items():
        found += [(f"{dimension}: {name}", [change]) for name, change in list(alternatives.items())[::2]]
    return found + combinations()[::4]
