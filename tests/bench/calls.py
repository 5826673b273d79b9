"""The groups of the bench that tests/tools/loop drives: each starts a runtime for itself alone, measures, stops it."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator

import leftovers
import processor
from figures import Samples, add
from loop import COLD as REST
from loop import command, loop
from owned import counts, owned, pss
from peers import RUNTIMES
from rows import ADD, ADD_PORT, COLD, DEL, DEL_PORT, PORT, Sizes, windows
from runtimes import CNI_CONF, PLUGINS, Runtime

IN_POD = 10
# Far more than anything takes, on a host that is busy with other things.
PATIENCE = 1200


@contextlib.contextmanager
def started(name: str) -> Iterator[Runtime]:
    runtime = RUNTIMES[name]()
    try:
        leftovers.warm_up(runtime)
        yield runtime
    except BaseException:
        # What was made until then is not to be counted as the next one's.
        with contextlib.suppress(AssertionError):
            runtime.crictl("rmp", "--all", "--force")
        raise
    finally:
        runtime.stop()


def containers(name: str, sizes: Sizes) -> Samples:
    with started(name) as runtime:
        found = loop(runtime, "containers", "--count", str(sizes.count))
        add(found, loop(runtime, "containers", "--count", str(sizes.count // 2), "--pause", REST), suffix=COLD)
        return found


def pods(name: str, sizes: Sizes) -> Samples:
    with started(name) as runtime:
        found = loop(runtime, "pods", "--count", str(sizes.count), "--no-host-port")
        add(found, loop(runtime, "pods", "--count", str(sizes.count // 2)), suffix=PORT)
        add(found, loop(runtime, "pods", "--count", str(sizes.count // 2), "--no-host-port", "--pause", REST), suffix=COLD)
        return found


def together(name: str, sizes: Sizes) -> Samples:
    found: Samples = {}
    with started(name) as runtime:
        for _ in range(sizes.again):
            add(found, loop(runtime, "parallel", "--count", str(sizes.at_once), "--no-host-port"))
    return found


def lives(name: str, sizes: Sizes) -> Samples:
    with started(name) as runtime:
        return loop(runtime, "lives", "--count", str(sizes.lives), "--no-host-port")


def events(name: str, sizes: Sizes) -> Samples:
    with started(name) as runtime:
        return loop(runtime, "events", "--count", str(sizes.count // 2), "--no-host-port")


def plugins(_: str, sizes: Sizes) -> Samples:
    """No runtime: what none can be quicker than with these plugins."""
    conflist = str(CNI_CONF / "10-tests.conflist")
    words = ["loop", "plugins", "--count", str(sizes.count), "--conflist", conflist, "--bin", PLUGINS]
    alone, with_port = output(*words, "--no-host-port"), output(*words)
    return {ADD: alone[ADD], DEL: alone[DEL], ADD_PORT: with_port[ADD], DEL_PORT: with_port[DEL]}


def growth(name: str, sizes: Sizes) -> Samples:
    with started(name) as runtime:
        every = loop(runtime, "growth", "--count", str(sizes.growth), "--no-host-port")
    looked_at = windows(sizes).items()
    return {f"{what}, {which}": values[part] for what, values in every.items() for which, part in looked_at}


def lists(name: str, sizes: Sizes) -> Samples:
    """With so many containers that run: what a kubelet asks, and a daemon that starts again."""
    among = ("--among", str(sizes.listed))
    with started(name) as runtime, held(runtime, sizes.listed, IN_POD, ()):
        found = loop(runtime, "lists", "--count", str(sizes.lists), *among)
        add(found, loop(runtime, "lists", "--count", str(sizes.lists // 5), "--pause", REST, *among), suffix=COLD)
        found["start to ready"] = [start_again(runtime, *among)]
    return found


def start_again(runtime: Runtime, *among: str) -> int:
    runtime.service.stop()
    with subprocess.Popen(command(runtime, "ready", *among), stdout=subprocess.PIPE, text=True) as waiting:
        waiting.stdout.readline()
        began = time.monotonic_ns()
        runtime.service.restart()
        if waiting.wait(PATIENCE) != 0:
            raise AssertionError(f"{runtime.name} was not ready again")
        return time.monotonic_ns() - began


def density(name: str, sizes: Sizes) -> Samples:
    """With pods of one container each: at the mark everything that the runtime owns, later the daemon alone."""
    before = counts(None)
    with started(name) as runtime, held(runtime, sizes.held, 1, (sizes.mark,)) as holder:
        daemon = runtime.service.pid
        memory = {pid: pss(pid) for pid in owned(runtime)}
        found = {"bytes, daemon at the mark": [memory.pop(daemon)], "bytes each": [sum(memory.values()) // sizes.mark]}
        for what, count in counts(runtime).items():
            found[f"{what} each"] = [round(1000 * (count - before[what]) / sizes.mark)]
        go_on(holder)
        found["bytes, daemon"] = [pss(daemon)]
    return found


@contextlib.contextmanager
def held(runtime: Runtime, count: int, in_pod: int, marks: tuple[int, ...]) -> Iterator[subprocess.Popen]:
    """Containers that run meanwhile; at the first mark the caller's turn comes, and so on."""
    words = command(runtime, "hold", "--count", str(count), "--in-pod", str(in_pod), "--mark", ",".join(map(str, marks)),
                    "--no-host-port")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            await_line(holder)
            yield holder
        finally:
            holder.stdin.close()
            holder.wait(PATIENCE)
    if holder.returncode != 0:
        raise AssertionError(f"{count} containers on {runtime.name} were not held, or did not go")


def go_on(holder: subprocess.Popen) -> None:
    holder.stdin.write("\n")
    holder.stdin.flush()
    await_line(holder)


def await_line(child: subprocess.Popen) -> str:
    line = child.stdout.readline()
    if not line:
        raise AssertionError(f"{' '.join(map(str, child.args[:2]))} has ended early")
    return line


def probes(name: str, sizes: Sizes) -> Samples:
    """What all of the node's processes but the client use while there are exec probes."""
    words = ("--count", str(sizes.probed), "--span", f"{sizes.seconds}s", "--no-host-port")
    with started(name) as runtime, subprocess.Popen(
        command(runtime, "probes", *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        await_line(client)
        before = processor.of_node()
        go_on(client)
        used = processor.of_node() - before
        client.stdin.write("\n")
        client.stdin.close()
        told = json.loads(await_line(client))
    number = len(told["ExecSync"])
    return {
        "processor time of a probe": [(used - told["client's processor time"][0]) // number],
        "a probe's share of the span": [told["span"][0] // number],
        "ExecSync meanwhile": told["ExecSync"],
    }


def output(*words: str) -> Samples:
    return json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
