"""What a container sees of file systems: mounts, their options, masks, devices, the root."""

import os

from bundle import PLAIN


def volume(*options, kind="bind", at="/volume", source="volume", looks=()):
    """A directory of the bundle at some place."""

    def change(bundle):
        bundle.mount(at, kind, str(bundle.directory / source), list(options))
        bundle.look(f"stat:{at}", f"stat:{at}/below", f"list:{at}", *looks)

    return change


def deep(*options):
    """A volume with a mount below it."""

    def change(bundle):
        bundle.mount("/volume", "bind", str(bundle.directory / "volume"), ["rbind", "rprivate"])
        bundle.mount("/volume/below", "tmpfs", "below", ["mode=700"])
        bundle.mount("/again", "bind", "/run/oracle-deep", [*options])
        bundle.look("stat:/again", "stat:/again/below", "list:/again")

    return change


def tmpfs(*options, at="/scratch", kind="tmpfs", source="tmpfs"):
    def change(bundle):
        bundle.mount(at, kind, source, list(options))
        bundle.look(f"stat:{at}", f"list:{at}")

    return change


def replaced(destination, kind, options, source=None):
    def change(bundle):
        bundle.without_mount(destination)
        bundle.spec["mounts"].insert(0 if destination == "/proc" else 1, {
            "destination": destination, "type": kind, "source": source or kind, "options": options})  # fmt: skip
        bundle.look(f"stat:{destination}", f"list:{destination}")

    return change


def cgroups(*options, kind="cgroup", namespace=True):
    def change(bundle):
        bundle.mount("/sys/fs/cgroup", kind, "cgroup", list(options))
        bundle.look("list:/sys/fs/cgroup", "stat:/sys/fs/cgroup", "stat:/sys/fs/cgroup/memory", "list:/sys/fs/cgroup/pids")
        if not namespace:
            bundle.without_namespace("cgroup")

    return change


def file(*options):
    def change(bundle):
        bundle.mount("/etc/hosts", "bind", "/etc/hosts", list(options))
        bundle.look("stat:/etc/hosts")

    return change


def mapped(*options, fields=True):
    """A volume whose owners are mapped by a range of its own."""

    def change(bundle):
        source = bundle.directory / "volume"
        for path in (source, *source.rglob("*")):
            os.chown(path, 5, 6)
        more = {}
        if fields:
            more = {ids: [{"containerID": 0, "hostID": 7000, "size": 100}] for ids in ("uidMappings", "gidMappings")}
        bundle.mount("/volume", "bind", str(source), list(options), **more)
        bundle.look("stat:/volume", "stat:/volume/file", "stat:/volume/below")

    return change


def masked(*paths, looks=()):
    def change(bundle):
        bundle.set("/linux/maskedPaths", list(paths))
        bundle.look(*(f"stat:{path}" for path in paths), *(f"list:{path}" for path in paths), *looks)

    return change


def read_only(*paths, looks=()):
    def change(bundle):
        bundle.set("/linux/readonlyPaths", list(paths))
        bundle.look(*(f"stat:{path}" for path in paths), *looks)

    return change


def nodes(*devices):
    def change(bundle):
        bundle.set("/linux/devices", list(devices))
        bundle.look(*(f"stat:{device['path']}" for device in devices))

    return change


def node(kind, path, major=0, minor=0, **more):
    return {"type": kind, "path": path, "major": major, "minor": minor, **more}


NUMBERS = ("c1:3", "c1:5", "c1:8", "c5:0", "c5:2", "c10:229", "c10:200", "b7:0", "c1:11", "c136:0", "c1:1")


def rules(*all_of):
    def change(bundle):
        bundle.set("/linux/resources/devices", list(all_of))
        bundle.look(*(f"device:{number}" for number in NUMBERS))

    return change


def allow(access="rwm", **fields):
    return {"allow": True, "access": access, **fields}


def deny(access="rwm", **fields):
    return {"allow": False, "access": access, **fields}


def nothing(bundle):
    bundle.spec["mounts"] = []
    bundle.set("/linux/maskedPaths", [])
    bundle.set("/linux/readonlyPaths", [])


DIMENSIONS = {
    "root": {
        "read-only": lambda bundle: bundle.set("/root/readonly", True),
    },
    "propagation": {
        word: lambda bundle, word=word: bundle.set("/linux/rootfsPropagation", word)
        for word in ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")
    },
    "bind": {
        "plain": volume("bind", "rprivate"),
        "with what is below": volume("rbind", "rprivate"),
        "read-only": volume("rbind", "ro", "rprivate"),
        "with flags": volume("bind", "nosuid", "nodev", "noexec", "noatime", "private"),
        "with times": volume("bind", "nodiratime", "strictatime", "private"),
        "relatime": volume("rbind", "relatime", "private"),
        "read-only, then not": volume("rbind", "ro", "rw", "private"),
        "no links": volume("rbind", "nosymfollow", "private"),
        "by its type alone": volume("rprivate"),
        "by its option alone": volume("rbind", "rprivate", kind="none"),
        "at a new place": volume("rbind", "rprivate", at="/new/place/deep"),
        "behind a link": volume("rbind", "rprivate", at="/link/inside"),
        "below /dev": volume("rbind", "rprivate", at="/dev/volume"),
        "inside another": lambda bundle: (volume("rbind", "rprivate")(bundle), volume("rbind", "ro", "rprivate", at="/volume/below")(bundle)),
        "slave": volume("rbind", "rslave"),
        "shared": volume("rbind", "rshared"),
        "unbindable": volume("rbind", "unbindable"),
        "remount": volume("bind", "remount", "ro", "private"),
    },
    "bind, recursive attributes": {
        "rro": deep("rbind", "rro", "rprivate"),
        "ro": deep("rbind", "ro", "rprivate"),
        "rnosuid and others": deep("rbind", "rnosuid", "rnodev", "rnoexec", "rprivate"),
        "rnoatime": deep("rbind", "rnoatime", "rprivate"),
        "rnodiratime and rnosymfollow": deep("rbind", "rnodiratime", "rnosymfollow", "rprivate"),
        "rstrictatime": deep("rbind", "rstrictatime", "rprivate"),
        "rro, then rrw": deep("rbind", "rro", "rrw", "rprivate"),
        "plain": deep("bind", "rprivate"),
    },
    "file": {
        "read-only": file("bind", "ro", "private"),
        "with flags": file("rbind", "nosuid", "nodev", "noexec", "private"),
    },
    "mapped": {
        "by its own ids": mapped("rbind", "rprivate"),
        "idmap": mapped("rbind", "idmap", "rprivate"),
        "ridmap": mapped("rbind", "ridmap", "rprivate"),
        "bind": mapped("bind", "rprivate"),
    },
    "tmpfs": {
        "with options": tmpfs("nosuid", "noexec", "size=1234k", "mode=1700", "uid=7", "gid=8", "nr_inodes=99"),
        "read-only": tmpfs("ro", "noatime"),
        "plain": tmpfs(),
        "copied up": tmpfs("tmpcopyup", "mode=755", at="/full"),
        "copied up over nothing": tmpfs("tmpcopyup", at="/data"),
        "shared": tmpfs("rshared"),
        "sync": tmpfs("sync", "dirsync", "lazytime"),
        "another source": tmpfs("size=10%", source="scratch"),
        "huge pages": tmpfs("huge=never"),
    },
    "mount": {
        "/proc with subset": replaced("/proc", "proc", [*PLAIN, "hidepid=invisible"]),
        "/proc read-only": replaced("/proc", "proc", [*PLAIN, "ro"]),
        "/sys writable": replaced("/sys", "sysfs", [*PLAIN, "rw"]),
        "/dev without options": replaced("/dev", "tmpfs", [], source="tmpfs"),
        "/dev read-only": replaced("/dev", "tmpfs", ["ro", "mode=755"], source="tmpfs"),
        "cgroups": cgroups(*PLAIN, "relatime", "ro"),
        "cgroups, writable": cgroups(*PLAIN, "relatime", "rw"),
        "cgroups of the host's namespace": cgroups(*PLAIN, "ro", namespace=False),
        "cgroup2 by name": cgroups(*PLAIN, "ro", kind="cgroup2"),
        "mqueue elsewhere": lambda bundle: bundle.mount("/queues", "mqueue", "mqueue", list(PLAIN)),
        "another devpts": lambda bundle: bundle.mount("/terminals", "devpts", "devpts", ["newinstance", "ptmxmode=0600"]),
        "overlay": lambda bundle: (
            [(bundle.directory / name).mkdir() for name in ("upper", "work")],
            bundle.mount("/merged", "overlay", "overlay", [
                f"lowerdir={bundle.directory}/volume", f"upperdir={bundle.directory}/upper", f"workdir={bundle.directory}/work"]),
            bundle.look("list:/merged")),
        "none at all": nothing,
        "ramfs": lambda bundle: bundle.mount("/ram", "ramfs", "ramfs", ["mode=750"]),
    },
    "paths": {
        "none": lambda bundle: (bundle.set("/linux/maskedPaths", []), bundle.set("/linux/readonlyPaths", [])),
        "masked files and directories": masked("/etc/passwd", "/full", "/proc/kcore", "/not/there"),
        "masked behind a link": masked("/link", looks=["stat:/data"]),
        "masked twice": masked("/full", "/full/deep"),
        "masked devices": masked("/dev/full", "/dev/shm"),
        "read-only files and directories": read_only("/etc/passwd", "/full", "/proc/sys", "/not/there", looks=["stat:/full/deep"]),
        "read-only mounts": read_only("/dev/shm", "/dev", looks=["stat:/dev/shm"]),
        "read-only behind a link": read_only("/link", looks=["stat:/data"]),
        "both": lambda bundle: (masked("/full/deep")(bundle), read_only("/full")(bundle)),
    },
    "device": {
        "of each kind": nodes(
            node("c", "/dev/fuse", 10, 229, fileMode=0o600, uid=5, gid=6), node("b", "/dev/deep/disk", 7, 0, fileMode=0o660, uid=0, gid=6),
            node("p", "/dev/pipe", fileMode=0o644), node("u", "/dev/other", 10, 200)),
        "instead of a default": nodes(node("c", "/dev/full", 1, 7, fileMode=0o600, uid=9, gid=9)),
        "outside /dev": nodes(node("c", "/data/null", 1, 3, fileMode=0o666)),
        "without a mode": nodes(node("c", "/dev/plain", 1, 3)),
    },
    "rules": {
        "none": rules(),
        "all": rules(allow()),
        "one": rules(deny(), allow("rw", type="c", major=10, minor=229)),
        "read alone": rules(deny(), allow("r", type="c", major=10, minor=229), allow("r", type="b", major=7, minor=0)),
        "a whole major": rules(deny(), allow("rwm", type="c", major=10)),
        "every block device": rules(deny(), allow("rwm", type="b")),
        "all, then not one": rules(allow(), deny("rwm", type="c", major=1, minor=11)),
        "not writable": rules(deny(), allow("rwm", type="c", major=10), deny("w", type="c", major=10, minor=229)),
        "a default denied": rules(deny(), deny("rwm", type="c", major=1, minor=8)),
        "negative numbers": rules(deny(), allow("rw", type="c", major=10, minor=-1)),
    },
}
