#!/usr/bin/env python3
"""The OCI runtime specification's own validation programs (runtime-tools), under corten-shim and under runc.

Usage: validation.py --programs FOLDER --shim COMMAND --runc COMMAND [--only REGEX] [--show]

A program that fails under the shim is a failure, unless `validation-failures` says why, or runc fails it, too:
then it is a skip with that reason. A line of the list whose program passes is a failure.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "lib"))
import leftovers  # noqa: E402
import observe  # noqa: E402
import results  # noqa: E402

PATIENCE = 120
# What may fail, and pass as well.
RACES = {
    "pidfile": "it kills a program that ends at once, and takes the error for it that the specification asks for as a failure; "
    "under runc nobody has reaped the program, and a signal to it succeeds",
}


def expected() -> dict[str, str]:
    """Programs that are known to fail, and why."""
    lines = (TESTS / "oracle/validation-failures").read_text().splitlines()
    parts = (line.split(" # ", 1) for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): reason for name, reason in parts}


class Programs:
    """The programs, and where each is run."""

    def __init__(self, folder: pathlib.Path, show: bool) -> None:
        self.folder = folder
        self.show = show

    def names(self, wanted: str) -> list[str]:
        return [path.name for path in sorted((self.folder / "validation").iterdir()) if re.search(wanted, path.name)]

    def failures(self, name: str, runtime: str) -> list[str]:
        """What a program found wrong: its tests that failed, or how it ended."""
        with tempfile.TemporaryDirectory(prefix="validation.", ignore_cleanup_errors=True) as place:
            for needed in (*self.folder.glob("rootfs-*"), self.folder / "runtimetest"):
                shutil.copy(needed, place)
            # Mounts of a container without a mount namespace of its own go with this one.
            command = ["unshare", "--mount", "--propagation", "private", self.folder / "validation" / name]
            environment = {**os.environ, "RUNTIME": runtime, "TMPDIR": place}
            try:
                done = subprocess.run(
                    command, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=False
                )
            except subprocess.TimeoutExpired:
                return [f"not finished after {PATIENCE} s"]
        if self.show:
            print(f"== {name} under {runtime}: {done.returncode}\n{done.stdout}\n{done.stderr}", flush=True)
        wrong = [line.strip() for line in done.stdout.splitlines() if re.match(r"\s*not ok\b", line) and "# TODO" not in line]
        if done.returncode != 0 and not wrong:
            wrong = [f"ended with {done.returncode}: {last_line(done.stderr)}"]
        return [re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|ocitest\d+|\d{3,}|^not ok \d+ *-? *", "", line) for line in wrong]


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def judge(name: str, shim: list[str], runc: list[str], reason: str | None) -> None:
    told = "; ".join(shim)[:1000]
    if not shim:
        results.record("fail" if reason else "pass", name, "it passes: take it off the list" if reason else "")
    elif reason or name in RACES and "pid-file" in told:
        results.record("skip", name, f"{reason or RACES[name]} ({told})")
    elif runc:
        results.record("skip", name, f"runc fails it, too ({told}; runc: {'; '.join(runc)[:300]})")
    else:
        results.record("fail", name, told)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", required=True, type=pathlib.Path)
    parser.add_argument("--shim", required=True)
    parser.add_argument("--runc", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    before = leftovers.holdings()
    programs, listed = Programs(arguments.programs, arguments.show), expected()
    for name in programs.names(arguments.only):
        shim = programs.failures(name, arguments.shim)
        # What the shim passes is not asked of runc.
        runc = programs.failures(name, arguments.runc) if shim else []
        judge(name, shim, runc, listed.get(name))
    for cgroup in ("corten", "testdir", "cgrouptest"):
        observe.remove_cgroup(cgroup)
    shutil.rmtree("/run/runc", ignore_errors=True)
    leftovers.check("the validation programs", before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
