"""Bundles for the oracle: a root file system with nothing but the probe, and a spec that cases change."""

import copy
import os
import pathlib

CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
]  # fmt: skip
PLAIN = ["nosuid", "noexec", "nodev"]
# What every case looks at beside the process itself.
LOOKS = [
    "list:/", "list:/dev", "list:/dev/pts", "stat:/", "stat:/tmp", "stat:/dev", "stat:/proc/sys", "stat:/proc/sysrq-trigger",
    "stat:/sys", "file:/proc/sys/net/ipv4/ip_unprivileged_port_start", "file:/proc/sys/kernel/shm_rmid_forced",
    *(f"stat:/dev/{name}" for name in (
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts/ptmx", "fd", "stdin", "stdout",
        "stderr", "core", "shm", "mqueue")),
]  # fmt: skip


def spec() -> dict:
    """What a runtime's own template says, more or less, with the probe as its program."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/probe", *LOOKS],
            "env": ["PATH=/bin:/usr/bin", "HOME=/root"],
            "cwd": "/",
            "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": list(PLAIN)},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*PLAIN, "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": list(PLAIN)},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*PLAIN, "ro"]},
        ],
        "annotations": {"org.corten.test": "oracle"},
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }  # fmt: skip


class Bundle:
    """One bundle on disk. A case's changes are functions of it."""

    def __init__(self, directory: pathlib.Path, probe: pathlib.Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.spec = spec()
        # Files of the bundle that are compared, too, after the container has gone: what hooks have left.
        self.traces: list[str] = []
        # What is to be done between the steps: see run.py.
        self.tasks: list = []
        root = self.root
        for place in ("proc", "sys", "dev", "tmp", "etc", "data", "home/user", "root", "full/deep"):
            (root / place).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        os.link(probe, root / "probe")
        (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\nextra:x:50000:user\n")
        (root / "full/file").write_text("copied up\n")
        (root / "full/deep/er").write_text("deeper\n")
        (root / "link").symlink_to("/data")
        volume = directory / "volume"
        (volume / "below").mkdir(parents=True)
        (volume / "file").write_text("x\n")

    @property
    def root(self) -> pathlib.Path:
        return self.directory / "rootfs"

    def at(self, pointer: str):
        place = self.spec
        for part in pointer.strip("/").split("/"):
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        return place

    def set(self, pointer: str, value) -> None:
        parent, _, name = pointer.rpartition("/")
        place = self.at(parent) if parent else self.spec
        place[name] = copy.deepcopy(value)

    def drop(self, pointer: str) -> None:
        parent, _, name = pointer.rpartition("/")
        (self.at(parent) if parent else self.spec).pop(name, None)

    def look(self, *words: str) -> None:
        """Has the probe look at more."""
        self.spec["process"]["args"] += words

    def mount(self, destination: str, kind: str, source: str, options: list, **more) -> None:
        entry = {"destination": destination, "type": kind, "source": source, "options": options, **more}
        self.spec["mounts"].append(entry)

    def without_mount(self, destination: str) -> None:
        self.spec["mounts"] = [mount for mount in self.spec["mounts"] if mount["destination"] != destination]

    def namespace(self, kind: str, path: str | None = None) -> None:
        self.without_namespace(kind)
        self.spec["linux"]["namespaces"].append({"type": kind, **({"path": path} if path else {})})

    def without_namespace(self, kind: str) -> None:
        spaces = self.spec["linux"]["namespaces"]
        self.spec["linux"]["namespaces"] = [space for space in spaces if space["type"] != kind]
