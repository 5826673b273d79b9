"""Processor time: of a whole node, and of all else on its host."""

import os
import pathlib

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# Of the first line of /proc/stat: idle, and waiting for a disk.
IDLE = (3, 4)


def of_node() -> int:
    """All that has run in this node's cgroup so far, ns: whoever ran it, and whether it has ended."""
    for path in pathlib.Path("/sys/fs/cgroup").glob("*/cpuacct.usage"):
        return int(path.read_text())
    fields = dict(line.split() for line in pathlib.Path("/sys/fs/cgroup/cpu.stat").read_text().splitlines())
    return int(fields["usage_usec"]) * 1000


class Others:
    """How busy the host was with anything but this node since this was made: whoever measures wants to know it."""

    def __init__(self) -> None:
        self.busy, self.all = host()
        self.node = of_node()

    def share(self) -> float:
        """Of all processors."""
        busy, total = host()
        spent = (busy - self.busy) - (of_node() - self.node)
        return max(0.0, spent / max(1, total - self.all))


def host() -> tuple[int, int]:
    """What was used, and what there was, ns. The last two fields are in the first two already."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = list(map(int, stat.readline().split()[1:9]))
    return (sum(ticks) - sum(ticks[place] for place in IDLE)) * TICK_NS, sum(ticks) * TICK_NS
