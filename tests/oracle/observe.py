"""Runs one bundle under one runtime, and collects what is seen: by the probe inside, in the cgroup from outside, by hooks."""

import contextlib
import json
import os
import pathlib
import select
import subprocess
import time

# An emulated machine can be held, too.
PATIENCE = 60
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Files of a cgroup that say what it uses or who is in it, or that only take.
COUNTERS = (
    "usage", "failcnt", "stat", "procs", "tasks", "event_control", "force_empty", "numa_stat", "pressure", "events", "peak",
    "notify_on_release", "release_agent", "clone_children", "reset_stats", "current", "kill", "reclaim", "threads",
    "cpuset.effective", "memory_pressure", "cgroup.type",
)  # fmt: skip


class Runtime:
    """A command line as runc has it."""

    def __init__(self, name: str, command: list[str], root: pathlib.Path) -> None:
        self.name = name
        self.command = [*command, "--root", str(root)]

    def call(self, *words: str, **more) -> subprocess.CompletedProcess:
        return subprocess.run([*self.command, *words], stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False, **more)

    def run(self, bundle, container: str) -> dict:
        """Create, start, wait, delete; the facts, or at which of these steps it was refused and how."""
        cgroup = bundle.spec["linux"].get("cgroupsPath")
        (bundle.directory / "config.json").write_text(json.dumps(bundle.spec))
        with contextlib.ExitStack() as stack:
            for task in bundle.tasks:
                stack.enter_context(task(bundle))
            return self.live(bundle, container, cgroup)

    def live(self, bundle, container: str, cgroup: str | None) -> dict:
        output, errors = bundle.directory / "stdout", bundle.directory / "stderr"
        pid_file = bundle.directory / "pid"
        with output.open("wb") as out, errors.open("wb") as err:
            words = ["create", "--bundle", str(bundle.directory), "--pid-file", str(pid_file), container]
            made = self.call(*words, stdout=out, stderr=err)
        if made.returncode != 0:
            self.call("delete", "--force", container, capture_output=True)
            return {"outcome": "refused at create", **traces(bundle), "said": errors.read_text().strip()}
        limits = cgroup_files(cgroup) if cgroup else {}
        status = self.status(container)
        try:
            pidfd = os.pidfd_open(int(pid_file.read_text()))
        except ProcessLookupError:
            self.call("delete", "--force", container, capture_output=True)
            return {"outcome": "its init has ended before the start", **traces(bundle), "said": errors.read_text().strip()}
        started = self.call("start", container, capture_output=True)
        said = ""
        if started.returncode != 0:
            facts = {"outcome": "refused at start"}
            said = started.stderr.decode().strip()
            self.call("kill", container, "KILL", capture_output=True)
        else:
            facts = {"outcome": "ran", "created": status}
        wait_for(pidfd)
        os.close(pidfd)
        stopped = self.stopped(container)
        deleted = self.call("delete", container, capture_output=True)
        if started.returncode == 0:
            facts |= probed(output) | {"stopped": stopped, "deleted": deleted.returncode, "limits": limits}
            facts["errors"] = errors.read_text()
        if cgroup:
            facts["cgroup_left"] = [str(path.relative_to(CGROUPS)) for path in directories(cgroup)]
        return facts | traces(bundle) | {"said": said or deleted.stderr.decode().strip()}

    def status(self, container: str) -> str:
        told = self.call("state", container, capture_output=True)
        try:
            return json.loads(told.stdout)["status"]
        except (ValueError, KeyError):
            return f"none ({told.returncode})"

    def stopped(self, container: str) -> str:
        """runc tells the end of a process that was reaped; until then it may still be running."""
        until = time.monotonic() + PATIENCE
        while (status := self.status(container)) == "running" and time.monotonic() < until:
            time.sleep(0.01)
        return status


def wait_for(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if not poller.poll(PATIENCE * 1000):
        raise TimeoutError("the container does not end")


def probed(output: pathlib.Path) -> dict:
    text = output.read_text(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return {"output": text}


def traces(bundle) -> dict:
    """What hooks have left in the bundle: for each run of one, in their order, what it saw, by the first word of each line."""
    found = {}
    for name in bundle.traces:
        path = bundle.directory / name
        runs = path.read_text(errors="replace").split("run of ")[1:] if path.exists() else []
        lines = [run.splitlines() for run in runs]
        found[f"trace:{name}"] = {f"{number} {run[0]}": dict(words(line) for line in run[1:]) for number, run in enumerate(lines)}
    return found


def words(line: str) -> tuple[str, str]:
    first, _, rest = line.partition(" ")
    return first, rest


def is_unified() -> bool:
    """Whether this host has cgroup v2 alone."""
    return (CGROUPS / "cgroup.controllers").exists()


def directories(cgroup: str) -> list[pathlib.Path]:
    """The directories of a cgroup, one for each hierarchy that has it; links beside hierarchies are other names for them."""
    if is_unified():
        places = [CGROUPS]
    else:
        places = sorted(path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())
    return [place / cgroup.lstrip("/") for place in places if (place / cgroup.lstrip("/")).is_dir()]


def remove_cgroup(cgroup: str) -> None:
    """What a runtime has left of a container's cgroup, which was compared before: those above it that were made with it."""
    for directory in directories(cgroup):
        for place, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(place)


def unmount_below(directory: pathlib.Path) -> None:
    """What crun mounts for a container without a mount namespace stays with its caller."""
    points = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed([point for point in points if point.startswith(f"{directory}/")]):
        subprocess.run(["umount", "--lazy", point], check=False)


def remove_what_is_left() -> None:
    """Where a create is refused late, runc may leave a cgroup in which its init was still ending."""
    places = [CGROUPS, *(path for path in CGROUPS.iterdir() if path.is_dir())]
    for directory in (left for place in places for left in place.glob("oracle-*")):
        with contextlib.suppress(OSError):
            directory.rmdir()


def cgroup_files(cgroup: str) -> dict:
    """All that can be set in a cgroup, as it is set; on v1 with its hierarchy before it."""
    found = {}
    unified = is_unified()
    for directory in directories(cgroup):
        for path in sorted(directory.iterdir()):
            name = path.name
            if path.is_dir() or not path.stat().st_mode & 0o222 or any(word in name for word in COUNTERS):
                continue
            try:
                place = "" if unified else f"{path.relative_to(CGROUPS).parts[0]}/"
                found[place + name] = path.read_text().strip()
            except OSError:
                continue
        devices = directory / "devices.list"
        if devices.exists():
            found["devices/devices.list"] = " | ".join(sorted(devices.read_text().split("\n"))).strip(" |")
    return found
