"""The failpoints that the source has, and what can be done at each. A new one in the source is a new row here."""

import pathlib
import re

POINT = re.compile(r'failpoint!\(\s*"([a-z_]+/[a-z-]+)"\s*\)')
# The request that leads a shim by its points.
LEADS_TO = {"shim_create": "create_container", "shim_start": "start_container", "shim_exit": "stop_container"}
ERROR, DAEMON, SHIM = "error", "daemon killed", "shim killed"
FAULTS = (ERROR, DAEMON, SHIM)
# Nothing that comes after these can fail in the program, so an error there would be an invention.
NO_ERROR = {"start_container/started", "shim_start/started"}
# Passed by a process that the shim has cloned, and waits for: the shim is who is killed.
CLONES = {"shim_create/prepared", "shim_create/cgroup-made", "shim_create/init"}
# There is no container, and so no shim of one, at these.
NO_SHIM = {"create_container/recorded", "remove_container/shim-ended",
           "remove_container/forgotten", "remove_pod_sandbox/containers-removed", "remove_pod_sandbox/closed",
           "remove_pod_sandbox/forgotten", "run_pod_sandbox/recorded"}
# Of the tests' own; and those that only a host of systemd's passes (the tier `scopes` plays them).
NOT_HERE = ("a_test/", "systemd_scope/")


def all_points(checkout: pathlib.Path) -> list[str]:
    """In the order of the files and lines, tests excepted."""
    found = []
    for folder in ("src", "shim/src"):
        for path in sorted((checkout / folder).rglob("*.rs")):
            found += POINT.findall(path.read_text())
    return [point for point in dict.fromkeys(found) if not point.startswith(NOT_HERE)]


def request_of(point: str) -> str:
    """The request that passes this point."""
    room = point.partition("/")[0]
    return LEADS_TO.get(room, room)


def faults_at(point: str) -> list[str]:
    """What is done at this point."""
    impossible = set()
    if point in NO_ERROR:
        impossible.add(ERROR)
    if point in NO_SHIM or request_of(point) == "pull_image":
        impossible.add(SHIM)
    return [fault for fault in FAULTS if fault not in impossible]


def is_shims(point: str) -> bool:
    """The process that passes it is a shim."""
    return point.partition("/")[0] in LEADS_TO
