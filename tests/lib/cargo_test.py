#!/usr/bin/env python3
"""Runs `cargo test` with the given arguments and records each of its tests, a failed one with what it said.

cargo's own "test result:" lines are the count that holds: a test's line may be torn by what another one prints,
so tests without a readable line are recorded by number.
"""

import re
import subprocess
import sys

from results import record

TARGET = re.compile(r"^\s+(?:Running .*/(?P<program>\S+)-[0-9a-f]+\)|Doc-tests (?P<doc>\S+))")
TEST = re.compile(r"^test (?P<name>.+?)(?: - should panic)? \.\.\. (?P<verdict>ok|FAILED|ignored)(?:, (?P<reason>.*))?$")
RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;")
SAID = re.compile(r"^---- (?P<name>.+?) stdout ----$")
SAID_END = re.compile(r"^(stack backtrace:|note: run with|failures:)")
STATUS = {"ok": "pass", "FAILED": "fail", "ignored": "skip"}
ORDER = ("pass", "fail", "skip")


class Target:
    """The tests of one test program, as its output tells them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = dict.fromkeys(ORDER, 0)
        self.said: dict[str, list[str]] = {}
        self.speaker: str | None = None

    def test(self, match: re.Match) -> None:
        status = STATUS[match["verdict"]]
        self.seen[status] += 1
        if status == "fail":
            self.said[match["name"]] = []
        else:
            record(status, f"{self.name} {match['name']}", (match["reason"] or "marked #[ignore]") if status == "skip" else "")

    def words(self, line: str) -> None:
        """Takes what a failed test said, which comes after all tests' lines."""
        if match := SAID.match(line):
            self.speaker = match["name"]
        elif SAID_END.match(line):
            self.speaker = None
        elif self.speaker in self.said and line.strip():
            self.said[self.speaker].append(line.strip())

    def record_failures(self) -> None:
        for name, lines in self.said.items():
            record("fail", f"{self.name} {name}", " | ".join(lines) or "see the log")
        self.said.clear()

    def finish(self, counts: list[int]) -> None:
        self.record_failures()
        for status, count in zip(ORDER, counts):
            for number in range(self.seen[status] + 1, count + 1):
                record(status, f"{self.name} (test {number} without a readable line)", "see the log")


def follow(output) -> bool:
    """Records what cargo prints; true when a failed test was among it."""
    target, failed = Target("?"), False
    for line in output:
        print(line, end="", flush=True)
        if match := TARGET.match(line):
            # One that was killed gives no result of its own.
            target.record_failures()
            target = Target(match["program"] or f"doc {match['doc']}")
        elif match := TEST.match(line):
            target.test(match)
        elif match := RESULT.match(line):
            counts = [int(count) for count in match.groups()]
            target.finish(counts)
            failed = failed or counts[1] > 0
        else:
            target.words(line)
    target.record_failures()
    return failed


def main() -> int:
    command = ["cargo", "test", "--locked", "--no-fail-fast", *sys.argv[1:]]
    print("+", *command, flush=True)
    cargo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    failed = follow(cargo.stdout)
    status = cargo.wait()
    if status != 0 and not failed:
        record("fail", " ".join(command), "did not build, or a test program was killed: see the log")
    return 0 if status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
