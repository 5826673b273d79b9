"""The rows of the table: what is looked at, under which group it is measured, and what is wanted of it (the goals of the
figures in the project's plan)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from table import BEST, MEGABYTES, MILLISECONDS, PLAIN, RATE, SECONDS, Row

# Programs of ours that differ in one thing; and what is measured of the host, beside all runtimes.
BUNDLED = "corten+bundled"
HOST = "the host"
ADD, DEL = "plugins ADD", "plugins DEL"
ADD_PORT, DEL_PORT = ADD + ", host port", DEL + ", host port"
COLD = ", cold"
PORT = ", host port"
CRITEST = {
    "containers": ("CreateContainer", "StartContainer", "StatusContainer", "StopContainer", "RemoveContainer"),
    "pods": ("CreatePod", "StatusPod", "StopPod", "RemovePod"),
    "images": ("PullImage", "StatusImage", "RemoveImage"),
    "lists": ("ListImages",),
}
FLOOR = ("pod", "end of a pod", "create", "start", "stop", "exec")
PULLS = ("218 MB in 5 layers", "4 of 5 layers are there", "60 layers", "20,000 small files", "ten images at once")


@dataclass(frozen=True)
class Sizes:
    """How much of everything: for figures that count, and for a look."""

    count: int
    again: int
    at_once: int
    lives: int
    listed: int
    lists: int
    mark: int
    held: int
    growth: int
    window: int
    probed: int
    seconds: int
    critest: int
    megabytes: int


FULL = Sizes(count=40, again=4, at_once=10, lives=100, listed=1000, lists=100, mark=40, held=100, growth=500, window=10,
             probed=20, seconds=10, critest=30, megabytes=500)
QUICK = Sizes(count=4, again=1, at_once=10, lives=6, listed=40, lists=10, mark=8, held=16, growth=24, window=4,
              probed=4, seconds=3, critest=4, megabytes=50)


def rows(sizes: Sizes) -> Mapping[str, Sequence[Row]]:
    """By the group that measures them, in the order of the table."""
    return {
        "floor": [Row(f"no runtime, the kernel alone: {step}", step, ours=HOST) for step in FLOOR],
        "containers": containers(),
        "together": together(sizes),
        "pods": pods(),
        "plugins": [Row(f"no runtime, the reference plugins alone: {verb}", f"plugins {verb}", ours=HOST)
                    for verb in ("ADD", "DEL")],
        "lives": lives(),
        "lists": lists(sizes),
        "probes": probes(),
        "density": density(sizes),
        "growth": growth(sizes),
        "events": events(),
        "images": images(),
        "streams": streams(sizes),
        "critest": critest(),
    }


def containers() -> list[Row]:
    loop = [
        Row("CreateContainer + StartContainer", "Create + Start", limit=5, times={BEST: 6}, floor="create + start"),
        Row("StopContainer (obeys SIGTERM)", "StopContainer", limit=2, times={BEST: 9}, floor="stop"),
        Row("ExecSync true", "ExecSync", limit=3, times={BEST: 9}, floor="exec"),
        Row("ContainerStatus", "ContainerStatus"),
        Row("RemoveContainer", "RemoveContainer"),
    ]
    cold = [Row(row.title + COLD, row.operation + COLD, limit=row.limit and 2 * row.limit) for row in loop]
    return [*loop, *cold]


def together(sizes: Sizes) -> list[Row]:
    both, made = f"{sizes.at_once} Create + Start at once", f"{sizes.at_once} pods at once"
    return [
        Row(both, both, limit=20, times={BEST: 8}),
        Row(made + ", bundled plugins", made, limit=40, times={BEST: 10}, ours=BUNDLED),
        Row(made + ", reference plugins", made),
    ]


def pods() -> list[Row]:
    run, stop, remove = "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"
    bundled, reference = ", bundled plugins", ", reference plugins"
    return [
        Row(run + bundled, run, limit=6, times={BEST: 14}, ours=BUNDLED, floor="pod"),
        Row(run + bundled + PORT, run + PORT, times={BEST: 14}, ours=BUNDLED, floor="pod"),
        Row(run + bundled + COLD, run + COLD, limit=12, ours=BUNDLED),
        Row(run + reference, run, limit=8, over=ADD, times={BEST: 1.8}, floor="pod"),
        Row(run + reference + PORT, run + PORT, limit=8, over=ADD_PORT),
        Row(run + reference + COLD, run + COLD),
        Row(stop + bundled, stop, limit=3, times={BEST: 25}, ours=BUNDLED, floor="end of a pod"),
        Row(stop + bundled + PORT, stop + PORT, limit=3, times={BEST: 25}, ours=BUNDLED, floor="end of a pod"),
        Row(stop + bundled + COLD, stop + COLD, limit=6, ours=BUNDLED),
        Row(stop + reference, stop, limit=3, over=DEL, times={BEST: 1}, floor="end of a pod"),
        Row(stop + reference + PORT, stop + PORT, limit=3, over=DEL_PORT, times={BEST: 1}),
        Row(stop + reference + COLD, stop + COLD),
        Row(remove + reference, remove),
    ]


def lives() -> list[Row]:
    title = "pods made and removed, one client, "
    return [
        Row(title + "bundled plugins", "a pod's life", RATE, limit=100, times={BEST: 15}, ours=BUNDLED),
        Row(title + "reference plugins", "a pod's life", RATE),
    ]


def lists(sizes: Sizes) -> list[Row]:
    among = f" among {sizes.listed:,}"
    return [
        Row(f"ListContainers with {sizes.listed:,}", "ListContainers", limit=3, times={BEST: 3}),
        Row("the same" + COLD, "ListContainers" + COLD, limit=6),
        Row(f"ListPodSandbox with {sizes.listed // 10:,}", "ListPodSandbox"),
        Row("ContainerStatus" + among, "ContainerStatus"),
        Row("PodSandboxStatus" + among, "PodSandboxStatus"),
        Row(f"daemon start to ready, {sizes.listed:,} containers run", "start to ready", SECONDS, limit=1, times={BEST: 3}),
    ]


def probes() -> list[Row]:
    return [
        Row("processor time of an exec probe, 100 a second wanted", "processor time of a probe", times={"containerd": 8},
            floor="exec, processor time"),
        Row("exec probes answered", "a probe's share of the span", RATE),
        Row("ExecSync meanwhile", "ExecSync meanwhile"),
    ]


def density(sizes: Sizes) -> list[Row]:
    each = f", each of {sizes.mark} pods of one container"
    return [
        Row("PSS of all processes but the daemon" + each, "bytes each", MEGABYTES, limit=0.15,
            times={"containerd": 30, "cri-o": 4}),
        Row("daemon PSS, " + f"{sizes.mark} pods", "bytes, daemon at the mark", MEGABYTES),
        Row(f"daemon PSS, {sizes.held} pods", "bytes, daemon", MEGABYTES, limit=15, times={BEST: 4}),
        Row("processes" + each, "processes each", PLAIN),
        Row("links on the node" + each, "links each", PLAIN),
        Row("namespaces, with the container's" + each, "namespaces each", PLAIN),
        Row("mounts on the node" + each, "mounts each", PLAIN),
    ]


def growth(sizes: Sizes) -> list[Row]:
    def of(what: str, which: str) -> Row:
        return Row(f"{what}, {which} of {sizes.growth} pods", f"{what}, {which}")

    return [of(what, which) for what in ("RunPodSandbox", "Create + Start") for which in windows(sizes)]


def windows(sizes: Sizes) -> Mapping[str, slice]:
    """The pods that are looked at while there are more and more of them."""
    last, ends = sizes.window, (sizes.window, sizes.growth // 5, sizes.growth)
    return {f"{end - last + 1}–{end}": slice(end - last, end) for end in ends}


def events() -> list[Row]:
    return [
        Row("event of a container's end, from its SIGKILL", "CONTAINER_STOPPED_EVENT"),
        Row("event of a container's start, from the call", "CONTAINER_STARTED_EVENT"),
    ]


def images() -> list[Row]:
    return [
        *(Row(f"pull: {what}", what, SECONDS, limit=1.6 if what == PULLS[0] else None) for what in PULLS),
        *(Row(f"processor time: {what}", f"{what}, processor time", SECONDS) for what in PULLS),
        Row("the daemon's peak of memory, the large image", "bytes, peak of the daemon, large", MEGABYTES),
        Row("disk used for the large image, of its files", "disk of files, large", PLAIN, limit=1.02),
        Row("ListImages, 1,000 images", "ListImages, 1,000 images"),
    ]


def streams(sizes: Sizes) -> list[Row]:
    return [
        Row("exec, first byte", "exec, first byte"),
        Row(f"exec, {sizes.megabytes} MiB of stdout", f"exec, {sizes.megabytes} MiB of stdout", SECONDS),
        Row("port-forward, first byte", "forwarded, first byte"),
        Row("port-forward, 200 MiB", "forwarded, 200 MiB", SECONDS),
    ]


def critest() -> list[Row]:
    """The suite's own benchmarks."""
    once = [Row(f"critest: {one}", one) for group in CRITEST.values() for one in group]
    at_once = [Row(f"critest, 10 in parallel: {one}", one + ", 10 in parallel")
               for group in ("containers", "pods") for one in CRITEST[group]]
    return [*once, *at_once]
