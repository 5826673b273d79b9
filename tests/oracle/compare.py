"""Takes out of two runs what differs between two runs of one runtime, compares the rest, and explains the differences.

The explanations are the lines of a list: CASE FIELD SHIM PEER, patterns as in a shell, then ` # ` and the reason; those
behind a line `[v1]` or `[v2]` hold on hosts with such cgroups, those behind `[any]` on each.
A line that explains nothing any more is a failure: it would hide the next difference. Only where the reason begins with
`sometimes: ` may it be without use: what it explains is a race of the peer's own.
"""

import fnmatch
import os
import pathlib
import re
import shlex
import time

import observe

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def plain(facts: dict, bundle, container: str, joined: dict[str, str]) -> dict[str, str]:
    """One flat table: what is compared."""
    facts = dict(facts)
    facts.pop("said", None)
    if "mounts" in facts:
        facts["mounts"] = mounts(facts["mounts"])
    if "namespaces" in facts:
        facts["namespaces"] = {kind: whose(kind, link, joined) for kind, link in facts["namespaces"].items()}
    if "clocks" in facts:
        now = (time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME))
        facts["clocks"] = [round((told - here) / 100) * 100 for told, here in zip(facts["clocks"], now, strict=True)]
    if "pid" in facts and facts["namespaces"].get("pid") != "its own":
        facts["pid"] = "of the host" if facts["pid"] > 20 else "low"
    for name in [name for name in facts if name.startswith("list:") and isinstance(facts[name], list)]:
        # Without the cgroup of another bundle at the same time.
        facts[name] = {entry: "there" for entry in facts[name] if entry == container or not entry.startswith("oracle-")}
    if "keyring" in facts:
        facts["keyring"] = re.sub(r";[0-9a-f]+;", ";MODE;", facts["keyring"], count=0)
    table: dict[str, str] = {}
    flatten("", facts, table)
    words = {str(bundle.directory): "BUNDLE", container: "CONTAINER"}
    return {named(name, words): named(value, words) for name, value in table.items()}


def named(value: str, words: dict[str, str]) -> str:
    for word, name in words.items():
        value = value.replace(word, name)
    return value


def flatten(prefix: str, value, table: dict[str, str]) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            flatten(f"{prefix}.{name}" if prefix else name, part, table)
    else:
        table[prefix] = value if isinstance(value, str) else repr(value)


def whose(kind: str, link: str, joined: dict[str, str]) -> str:
    if link == os.readlink(f"/proc/self/ns/{kind}"):
        return "the host's"
    if link == joined.get(kind):
        return "joined"
    return "its own" if link.startswith(kind) or kind == "mnt" else link


def mounts(text: str) -> dict[str, str]:
    """A line for each mount point, without numbers: which mount of several at one place comes last counts."""
    table: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if "-" not in words:
            continue
        dash = words.index("-")
        root, point, options = words[3:6]
        # As its file system has it: on a machine whose own root is part of one, with that part's path before it.
        root = re.sub(r".*/bundles/[^/]*", "BUNDLE", root)
        spread = sorted(word.split(":")[0] for word in words[6:dash])
        kind, source, more = words[dash + 1 : dash + 4]
        more = ",".join(sorted(word for word in more.split(",") if not word.startswith(("inode64", "size=", "huge="))))
        size = [word for word in words[dash + 3].split(",") if word.startswith("size=")]
        entry = " ".join([root, options, *spread, "-", kind, source, more, *size])
        table[point] = f"{table[point]} && {entry}" if point in table else entry
    return table


class Explanations:
    """The list of differences that are meant."""

    def __init__(self, path: pathlib.Path) -> None:
        self.lines = []
        here = True
        for line in path.read_text().splitlines():
            if line.startswith("["):
                here = line.strip("[]") in ("any", "v2" if observe.is_unified() else "v1")
            elif here and line.strip() and not line.startswith("#"):
                patterns, _, reason = line.partition(" # ")
                case, field, shim, peer = shlex.split(patterns)
                self.lines.append(((case, field, shim, peer), reason))
        self.used: set[int] = set()

    def explain(self, case: str, field: str, shim: str, peer: str) -> str | None:
        found = None
        for number, (patterns, reason) in enumerate(self.lines):
            values = (case, field, shim, peer)
            if all(fnmatch.fnmatchcase(value, pattern) for value, pattern in zip(values, patterns, strict=True)):
                self.used.add(number)
                found = found or reason
        return found

    def unused(self) -> list[str]:
        left = (line for number, line in enumerate(self.lines) if number not in self.used)
        return [" ".join(patterns) for patterns, reason in left if not reason.startswith("sometimes: ")]


def differences(shim: dict[str, str], peer: dict[str, str]) -> list[tuple[str, str, str]]:
    absent = "(absent)"
    names = sorted(set(shim) | set(peer))
    pairs = ((name, shim.get(name, absent), peer.get(name, absent)) for name in names)
    return [(name, one, other) for name, one, other in pairs if one != other]
