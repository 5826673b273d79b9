"""What a runtime owns: processes and their memory, links, namespaces, mounts; pools and spares with it."""

import os
import pathlib
import re
from collections.abc import Iterable

from peers import OWN
from runtimes import Runtime

PINNED = re.compile(r"^\S+ \S+ \S+ (\w+:\[\d+\]) ", re.MULTILINE)
NAMESPACES = re.compile(r"^\w+:\[\d+\]$")


def owned(runtime: Runtime) -> list[int]:
    """Its processes, the daemon among them."""
    return [int(folder.name) for folder in processes() if OWN[runtime.name].search(target(folder / "exe"))]


def pss(pid: int) -> int:
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+) kB$", text, re.MULTILINE)[1]) * 1024


def counts(runtime: Runtime | None) -> dict[str, int]:
    """How much there is of it; without a runtime, of what there is beside it."""
    own = owned(runtime) if runtime else []
    seer = runtime.service.pid if runtime else "self"
    return {
        "processes": len(own),
        "links": len(os.listdir("/sys/class/net")),
        "namespaces": len(namespaces(own, seer)),
        "mounts": pathlib.Path(f"/proc/{seer}/mountinfo").read_text().count("\n"),
    }


def namespaces(own: Iterable[int], seer: int | str) -> set[str]:
    """Those that any process is in, that are mounted, and that a process of the runtime keeps open."""
    lived_in = {target(link) for folder in processes() for link in entries(folder / "ns")}
    open_ones = {target(link) for pid in own for link in entries(pathlib.Path(f"/proc/{pid}/fd"))}
    mounted = set(PINNED.findall(pathlib.Path(f"/proc/{seer}/mountinfo").read_text()))
    return {name for name in lived_in | open_ones | mounted if NAMESPACES.match(name)}


def processes() -> Iterable[pathlib.Path]:
    return pathlib.Path("/proc").glob("[0-9]*")


def entries(folder: pathlib.Path) -> list[pathlib.Path]:
    """Nothing of a process that has ended."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def target(link: pathlib.Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
