#!/usr/bin/env python3
"""What runs in a machine whose power is cut.

    cut_inside.py pull    pulls an image until it is on the disk for good, says `pulling SECONDS` and pulls another one,
                          while a neighbour has the journal written; then it waits for the end
    cut_inside.py look    after the cut: the first image is there, each is absent or whole, the next pull completes, and
                          nothing is left; the last word is what became of the second image
"""

import pathlib
import subprocess
import sys
import tempfile
import time
from importlib.util import module_from_spec, spec_from_file_location

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "crash")]
from node import Daemon  # noqa: E402
from recording import Neighbour  # noqa: E402
from wait import until  # noqa: E402

DISK, MOUNTED = "/dev/disk/by-id/virtio-data", "/data"
#: Both boots have the same images, whose names have the registry's port in them.
SEED, PORT = 1, 5055
#: For what an emulated disk has to write.
PATIENCE = 300


def main() -> int:
    pathlib.Path(MOUNTED).mkdir()
    subprocess.run(["mount", "-t", "ext4", DISK, MOUNTED], check=True)
    case = crash().Case(tempfile.mkdtemp(), SEED, PORT)
    daemon = Daemon(f"{MOUNTED}/root", tempfile.mkdtemp(), "corten")
    {"pull": pull, "look": look}[sys.argv[1]](case, daemon)
    return 0


def crash():
    """The crash tests' own program, by its file's name: there is a run.py in each folder of a tier."""
    spec = spec_from_file_location("crash_run", TESTS / "crash" / "run.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pull(case, daemon: Daemon) -> None:
    took = daemon.pull(case.registry.name("1"))
    until(daemon.durable, PATIENCE, "the layers are durable")
    subprocess.run(["sync", "--file-system", MOUNTED], check=True)
    print(f"pulling {took:.2f}", flush=True)
    daemon.begin_pull(case.registry.name("2"))
    with Neighbour(f"{MOUNTED}/database"):
        time.sleep(PATIENCE)


def look(case, daemon: Daemon) -> None:
    listed = daemon.images()
    assert case.is_listed("1", listed), f"gone although on the disk for good; there are {listed}"
    second = "whole" if case.is_listed("2", listed) else "absent"
    case.verdict(daemon)
    daemon.kill()
    print(second)


if __name__ == "__main__":
    sys.exit(main())
