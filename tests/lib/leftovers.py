"""Is anything left? What a node holds, before and after; the difference is what a runtime forgot.

The first look is taken after one warm-up pod has come and gone: some things stay by design after the first pod
(the bridge, the port mapping's base chains, host-local's last address).
"""

import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterable

from results import record
from runtimes import IN_RESERVE, Runtime
from wait import Late, until

IMAGE = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
PACE = 20
SHOWN = 100
# host-local remembers these on purpose.
KEPT_BY_IPAM = re.compile(r"^(last_reserved_ip\..*|lock)$")

Holdings = dict[str, set[str]]


def holdings(folders: Iterable[str] = ()) -> Holdings:
    """What this node holds now, by kind, with the entries of `folders`. Images and their layers are no leftovers."""
    return {
        "mount": _mounts(),
        "process": _processes(),
        "network namespace": _names("/run/netns"),
        "link": _links(),
        "firewall rule": _rules(),
        "cgroup": _cgroups(),
        "address": _addresses(),
        "CNI result": _names("/var/lib/cni/results") | _names("/var/lib/cni/cache"),
        **{f"entry in {folder}": _names(folder) for folder in folders},
    }


def check(what: str, before: Holdings, folders: Iterable[str] = ()) -> None:
    """Records whether anything is there now that was not `before`, once it had time to go."""
    name = f"nothing is left of {what}"
    left = left_over(before, folders)
    if left:
        print(*left[:SHOWN], sep="\n", flush=True)
        record("fail", name, f"{len(left)} left: " + ", ".join(left[:10]))
    else:
        record("pass", name)


def left_over(before: Holdings, folders: Iterable[str] = ()) -> list[str]:
    """What is there that was not `before`, once it had time to go."""
    try:
        until(lambda: not _more(before, holdings(folders)), PACE, "nothing is left")
    except Late:
        return _more(before, holdings(folders))
    return []


def warm_up(runtime: Runtime) -> None:
    """One pod with a host port and a container, made and removed."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pod, container = folder / "pod.json", folder / "container.json"
        pod.write_text(
            '{"metadata": {"name": "warm-up", "namespace": "tests", "uid": "warm-up", "attempt": 1},'
            f' "hostname": "warm-up", "log_directory": "{folder}", "linux": {{}},'
            ' "port_mappings": [{"protocol": 0, "container_port": 80, "host_port": 17999}]}'
        )
        container.write_text(
            f'{{"metadata": {{"name": "c"}}, "image": {{"image": "{IMAGE}"}}, "command": ["top"],'
            ' "log_path": "c.log", "linux": {}}'
        )
        runtime.crictl("pull", IMAGE)
        sandbox = runtime.crictl("runp", str(pod)).strip()
        made = runtime.crictl("create", sandbox, str(container), str(pod)).strip()
        runtime.crictl("start", made)
        runtime.crictl("stopp", sandbox)
        runtime.crictl("rmp", sandbox)


def kubelet_cgroups() -> set[str]:
    """The kubelet's own parents of all pods; it makes some of them with the first pod."""
    roots = ["/sys/fs/cgroup", *(str(path) for path in pathlib.Path("/sys/fs/cgroup").iterdir() if path.is_dir())]
    return {root + parent for root in roots for parent in ("/kubepods", "/kubepods/burstable", "/kubepods/besteffort")}


def _more(before: Holdings, now: Holdings) -> list[str]:
    return [f"{kind} {one}" for kind in now for one in sorted(now[kind] - before[kind])]


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _mounts() -> set[str]:
    return {line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()}


def _processes() -> set[str]:
    """By command name, and number among those of one name: pids change, a restarted daemon is no leftover.
    Nor is what a daemon keeps in reserve, as long as whose it is lives."""
    seen: dict[str, int] = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
            if words and (IN_RESERVE.isdisjoint(words.split("\0")) or _is_orphan(folder)):
                name = (folder / "comm").read_text().strip()
                seen[name] = seen.get(name, 0) + 1
        except OSError:
            continue
    return {f"{name} ({number})" for name, count in seen.items() for number in range(1, count + 1)}


def _is_orphan(folder: pathlib.Path) -> bool:
    return (folder / "stat").read_text().rpartition(")")[2].split()[1] in ("0", "1")


def _links() -> set[str]:
    return _names("/sys/class/net")


def _rules() -> set[str]:
    """The kubelet keeps rules of its own, in chains of its own, and writes them when it pleases."""
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    return {line for line in saved.splitlines() if line.startswith("-A") and "KUBE-" not in line}


def _cgroups() -> set[str]:
    return {folder for folder, _, _ in os.walk("/sys/fs/cgroup")}


def _addresses() -> set[str]:
    networks = pathlib.Path("/var/lib/cni/networks")
    return {str(path) for path in networks.glob("*/*") if not KEPT_BY_IPAM.match(path.name)}
