"""The list of specs that are expected to fail or to skip, and the judgement of a run by it.

The list's form, with `without FACT` only where the host decides it (FACTS below):

    fail: the spec's full text
      why, in words
    skip without apparmor: the spec's full text
      why, in words

Both sides hold: a spec that is not listed must pass, and a listed one must do what the list says.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator

from report import Spec

ENTRY = re.compile(r"^(?P<state>fail|skip)(?: without (?P<fact>\w+))?: (?P<text>.+)$")


@dataclasses.dataclass
class Expected:
    state: str
    reason: str


def _apparmor() -> bool:
    switch = pathlib.Path("/sys/module/apparmor/parameters/enabled")
    return switch.exists() and switch.read_text().strip() == "Y"


FACTS = {"apparmor": _apparmor}


def read(path: pathlib.Path) -> dict[str, Expected]:
    listed: dict[str, Expected] = {}
    entry = None
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("  "):
            if entry:
                entry.reason = (entry.reason + " " + line.strip()).strip()
            continue
        match = ENTRY.match(line)
        if not match:
            raise SystemExit(f"{path}: not an entry: {line}")
        entry = Expected(match["state"], "")
        if not (match["fact"] and FACTS[match["fact"]]()):
            listed[match["text"]] = entry
    unexplained = [text for text, entry in listed.items() if not entry.reason]
    if unexplained:
        raise SystemExit(f"{path}: without a reason: {unexplained}")
    return listed


def judge(specs: Iterable[Spec], listed: dict[str, Expected]) -> Iterator[tuple[str, str, str]]:
    """Gives (status, name, reason) for each spec, and for each listed one that the suite does not have."""
    missing = dict(listed)
    for spec in specs:
        missing.pop(spec.text, None)
        yield _verdict(spec, listed.get(spec.text))
    for text in missing:
        yield "fail", text, "listed, but the suite has no such spec: take it off the list"


def _verdict(spec: Spec, expected: Expected | None) -> tuple[str, str, str]:
    if expected is None:
        note = {"pass": "", "fail": spec.message, "skip": f"skipped, and not on the list: {spec.message}"}[spec.state]
        return ("pass" if spec.state == "pass" else "fail"), spec.text, note
    if spec.state == expected.state:
        word = {"fail": "expected to fail", "skip": "expected to skip"}[spec.state]
        return "skip", spec.text, f"{word}: {expected.reason}"
    did = {"pass": "passed", "fail": "failed", "skip": "skipped"}[spec.state]
    return "fail", spec.text, f"{did}, but the list says {expected.state}: {spec.message or 'take it off the list'}"
