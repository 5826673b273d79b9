#!/usr/bin/env python3
"""A node in a container on Corten, with Corten in it: `tests/lib/node tests/kind/run.py [--only SUBSTRING]`."""

import argparse
import os
import pathlib
import shutil
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
# Its own folder first: other tiers have cases, too.
sys.path[:0] = [str(TESTS / "kind"), str(TESTS / "lib"), str(TESTS / "kubelet")]
import leftovers  # noqa: E402
import registry  # noqa: E402
from cases import Kind  # noqa: E402
from commands import BROUGHT, LOADED, Commands  # noqa: E402
from node import Node, make_image, run  # noqa: E402
from recorder import run_cases  # noqa: E402
from runtimes import Corten  # noqa: E402
from service import log_folder  # noqa: E402


class KeepingCorten(Corten):
    """Keeps blobs, so that it can export images."""

    def config(self, mirrors: pathlib.Path) -> str:
        return super().config(mirrors) + "\n[images]\nkeep_blobs = true\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    registry.start(pathlib.Path(os.environ["CORTEN_IMAGES"]))
    runtime = KeepingCorten()
    leftovers.warm_up(runtime)
    brought, Kind.archive = (archive(runtime, image) for image in (BROUGHT, LOADED))
    Commands.runtime, Commands.archive = runtime, Kind.archive
    run_cases(Commands, options.only)
    run_node(runtime, brought, options.only)
    runtime.stop()
    return 0


def run_node(runtime: Corten, brought: pathlib.Path, only: str) -> None:
    """The node, and that nothing is left of it."""
    tree = make_image(runtime, [brought])
    before = leftovers.holdings(runtime.state_folders)
    Kind.node = Node(runtime, tree)
    try:
        run_cases(Kind, only)
    finally:
        keep_logs(Kind.node)
    if not only:
        leftovers.check("the node and its pods", before, runtime.state_folders)


def archive(runtime: Corten, image: str) -> pathlib.Path:
    """What `docker save` would write of it."""
    path = pathlib.Path(os.environ["CORTEN_NODE"], image.rpartition("/")[2].replace(":", "-") + ".tar")
    runtime.crictl("pull", image)
    run(["corten", "image", "export", "--format", "docker-archive", "--to", path, image])
    return path


def keep_logs(node: Node) -> None:
    """What the node said on its terminal, and its journal."""
    logs = pathlib.Path(log_folder())
    if node.log.exists():
        shutil.copy(node.log, logs)
    shutil.copytree(node.var / "log/journal", logs / "journal", dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
