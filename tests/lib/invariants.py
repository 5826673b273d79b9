"""Does the host agree with what Corten says it has? Both ways: what it says is there, and what is there is said.

`leftovers` compares the host with itself, before and after. This compares it with the runtime's own words at any
moment at which no request is under way, and says how they differ, one line a difference; no line means agreement.
"""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import time

from runtimes import IN_RESERVE, Runtime
from wait import Late, until

ROOT, STATE = pathlib.Path("/var/lib/corten"), pathlib.Path("/run/corten")
NETNS = pathlib.Path("/run/netns")
NETWORKS, RESULTS = pathlib.Path("/var/lib/cni/networks"), pathlib.Path("/var/lib/cni/results")
ID = re.compile(r"[0-9a-f]{64}")
# host-local remembers these on purpose.
KEPT_BY_IPAM = re.compile(r"^(last_reserved_ip\..*|lock)$")


@dataclasses.dataclass
class Said:
    """What Corten says: sandboxes and containers by id, with what inspect tells of them."""

    sandboxes: dict[str, dict]
    containers: dict[str, dict]

    @property
    def ready(self) -> dict[str, dict]:
        return {id: one for id, one in self.sandboxes.items() if one["status"]["state"] == "SANDBOX_READY"}

    @property
    def living(self) -> dict[str, dict]:
        alive = ("CONTAINER_CREATED", "CONTAINER_RUNNING")
        return {id: one for id, one in self.containers.items() if one["status"]["state"] in alive}

    @property
    def connected(self) -> set[str]:
        """Those that have a network: also one that is not ready any more, until it is stopped."""
        return {id for id, one in self.sandboxes.items() if one["info"].get("netns")}


def said(runtime: Runtime) -> Said:
    inspect = lambda verb, id: json.loads(runtime.crictl(verb, id))  # noqa: E731
    sandboxes = runtime.crictl("pods", "-q", "--no-trunc").split()
    containers = runtime.crictl("ps", "-a", "-q", "--no-trunc").split()
    return Said({id: inspect("inspectp", id) for id in sandboxes}, {id: inspect("inspect", id) for id in containers})


def differences(runtime: Runtime) -> list[str]:
    """How the host differs from what Corten says now."""
    words = said(runtime)
    looks = (_records, _namespaces, _network, _rules, _processes, _sockets, _cgroups, _images)
    return [difference for look in looks for difference in look(words)]


def await_agreement(runtime: Runtime, seconds: float = 20) -> list[str]:
    """The differences that are still there after some time: links, cgroups and mounts end in the background."""
    try:
        until(lambda: not differences(runtime), seconds, "the host agrees")
    except Late:
        return differences(runtime)
    return []


def _compare(what: str, found: set[str], expected: set[str]) -> list[str]:
    nobodys = [f"{what} {one} is nobody's" for one in sorted(found - expected)]
    return nobodys + [f"{what} {one} is missing" for one in sorted(expected - found)]


def _names(folder: pathlib.Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _records(words: Said) -> list[str]:
    sandboxes, containers = set(words.sandboxes), set(words.containers)
    return [
        *_compare("record of sandbox", _names(ROOT / "sandboxes"), sandboxes),
        *_compare("directory of container", _names(ROOT / "containers"), containers),
        *_compare("run directory of sandbox", _names(STATE / "sandboxes"), sandboxes),
    ]


def _namespaces(words: Said) -> list[str]:
    """Mounts below the runtime's places are the pins that sandboxes name, and nothing else."""
    pins = set()
    for one in words.sandboxes.values():
        spaces = one["info"]["namespaces"]
        pins |= {spaces[kind] for kind in ("network", "ipc", "uts", "pid", "shm") if spaces.get(kind)}
    mounts = {line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()}
    places = tuple(f"{place}/" for place in (ROOT, STATE, NETNS))
    pinned = {name for name in (f"{NETNS}/{name}" for name in _names(NETNS)) if "/corten-" in name}
    return [
        *_compare("mount", {mount for mount in mounts if mount.startswith(places)}, pins),
        *_compare("network namespace", pinned, {pin for pin in pins if pin.startswith(f"{NETNS}/")}),
    ]


def _network(words: Said) -> list[str]:
    """Addresses, results and links of the pods that have a network, and of no others."""
    files = [path for path in NETWORKS.glob("*/*") if not KEPT_BY_IPAM.match(path.name)]
    holders = [path.read_text().split()[0] for path in files]
    results = {match.group() for name in _names(RESULTS) if (match := ID.search(name))}
    twice = [f"sandbox {id} has more than one address" for id in set(holders) if holders.count(id) > 1]
    return [
        *twice,
        *_compare("address of sandbox", set(holders), words.connected),
        *_compare("CNI result of sandbox", results, words.connected),
        *_compare("host link", _host_links(), _expected_links(words)),
    ]


def _host_links() -> set[str]:
    """The ends of pairs that hang on a bridge: the node's own do not."""
    return {link.parent.name for link in pathlib.Path("/sys/class/net").glob("veth*/master")}


def _expected_links(words: Said) -> set[str]:
    links = set()
    for path in RESULTS.glob("*"):
        match = ID.search(path.name)
        if match and match.group() in words.connected:
            interfaces = json.loads(path.read_text())["result"]["interfaces"]
            links |= {one["name"] for one in interfaces if one["name"].startswith("veth") and not one.get("sandbox")}
    return links


def _rules(words: Said) -> list[str]:
    """The reference plugins write the sandbox's id into each rule's comment."""
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    return [f"firewall rule of sandbox {id} is nobody's" for id in sorted(set(ID.findall(saved)) - words.connected)]


def _processes(words: Said) -> list[str]:
    """One shim for each living container, its init, the holders; no helper of a request outlives it."""
    running = [id for _, id in shims()]
    others = [f"process corten-shim {verb} outlives its request"
              for _, verb, _ in shim_processes() if verb not in ("run", "pause")]
    doubled = [f"container {id} has {running.count(id)} shims" for id in set(running) if running.count(id) > 1]
    missing = [
        f"process {one['info']['pid']}, init of container {id}, is missing"
        for id, one in words.living.items() if not pathlib.Path(f"/proc/{one['info']['pid']}").exists()
    ]
    # One whose container has ended may stay for a while, for who asks how.
    lingering = set(words.containers) - set(words.living)
    holding = {str(pid) for pid, verb, _ in shim_processes() if verb == "pause"}
    holders = {str(one["info"]["pid"]) for one in words.ready.values() if one["info"]["pid"]}
    return [*others, *doubled, *missing,
            *_compare("shim of container", set(running) - lingering, set(words.living)),
            *_compare("holder", holding, holders)]


def shims() -> list[tuple[int, str]]:
    """The shims of containers: pid and container. An init that waits for its start looks the same, as the shim's child."""
    running = {pid: arguments[arguments.index("--id") + 1] for pid, verb, arguments in shim_processes() if verb == "run"}
    return [(pid, id) for pid, id in running.items() if running.get(_parent(pid)) != id]


def shim_processes() -> list[tuple[int, str, list[str]]]:
    """All processes of the shim's program but those in reserve: pid, verb, arguments."""
    return [one for one in _programs() if IN_RESERVE.isdisjoint(one[2])]


def vacant_shims() -> list[int]:
    """Shims without a container: in reserve, or about to get one."""
    return [pid for pid, verb, arguments in _programs() if verb == "run" and not IN_RESERVE.isdisjoint(arguments)]


def _programs() -> list[tuple[int, str, list[str]]]:
    """All processes of the shim's program: pid, verb, arguments. A holder is started by way of /proc/self/exe."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]) in ("corten-shim", "exe") and len(words) > 1:
            found.append((int(path.parent.name), words[1], words[2:]))
    return found


def _parent(pid: int) -> int:
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _sockets(words: Said) -> list[str]:
    lingering = {id[:32] for id in set(words.containers) - set(words.living)}
    found = _names(STATE / "shims") - lingering
    return _compare("shim socket", found, {id[:32] for id in words.living})


def _cgroups(words: Said) -> list[str]:
    """Containers' cgroups end in their id, in every hierarchy where they have one."""
    found = set()
    for folder, _, _ in os.walk("/sys/fs/cgroup"):
        found |= set(ID.findall(folder)) & {os.path.basename(folder)}
    known = set(words.living) | set(words.sandboxes)
    nobodys = [f"cgroup of {id} is nobody's" for id in sorted(found - known)]
    return nobodys + [f"cgroup of container {id} is missing" for id in sorted(set(words.living) - found)]


def _images(_words: Said) -> list[str]:
    """What half a pull leaves: directories that no layer became. Layers of whole images are the store's own affair."""
    staged = [path for path in (ROOT / "layers").glob("*") if path.name.startswith(".tmp-")]
    return [f"half a layer is left at {path}" for path in staged]


def report(runtime: Runtime, seconds: float = 20) -> str:
    """The differences as one text; empty where there are none."""
    begun = time.monotonic()
    found = await_agreement(runtime, seconds)
    if found:
        print(f"after {time.monotonic() - begun:.1f} s:", *found, sep="\n  ", flush=True)
    return "; ".join(found[:6]) + (f" … and {len(found) - 6} more" if len(found) > 6 else "")
