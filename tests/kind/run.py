#!/usr/bin/env python3
"""A node in a container on Corten, with Corten in it, then one that kind makes: `tests/lib/node tests/kind/run.py [--only SUBSTRING]`."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
# Its own folder first: other tiers have cases, too.
sys.path[:0] = [str(TESTS / "kind"), str(TESTS / "lib"), str(TESTS / "kubelet")]
import clusters  # noqa: E402
import leftovers  # noqa: E402
import podman  # noqa: E402
import registry  # noqa: E402
from cases import Kind  # noqa: E402
from commands import BROUGHT, LOADED, Commands  # noqa: E402
from node import Node, make_image, run  # noqa: E402
from recorder import chosen, run_cases  # noqa: E402
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
    if chosen(Kind, options.only):
        run_node(runtime, brought, options.only)
    if chosen(clusters.Clusters, options.only):
        run_cluster(runtime, options.only)
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


def run_cluster(runtime: Corten, only: str) -> None:
    """kind's own cluster. The runtime here has its images from the registry; podman makes the node."""
    scratch = pathlib.Path(os.environ["CORTEN_NODE"])
    give_modules(scratch / "modules")
    podman.configure(scratch / "podman")
    clusters.make_image([archive(runtime, image) for image in clusters.CONTROL_PLANE])
    clusters.Clusters.archive = Kind.archive
    try:
        run_cases(clusters.Clusters, only)
    finally:
        keep_cluster_logs()


def give_modules(folder: pathlib.Path) -> None:
    """kind gives each node the host's /lib/modules; a kernel without modules has no such folder."""
    if pathlib.Path("/lib/modules").exists():
        return
    for name in ("upper", "work"):
        (folder / name).mkdir(parents=True)
    options = f"lowerdir=/usr,upperdir={folder}/upper,workdir={folder}/work"
    run(["mount", "-t", "overlay", "-o", options, "overlay", "/usr"])
    pathlib.Path("/usr/lib/modules").mkdir()


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


def keep_cluster_logs() -> None:
    """What kind exported, and what the node said, if it is still there."""
    exported = clusters.Clusters.folder / "logs"
    if exported.exists():
        shutil.copytree(exported, pathlib.Path(log_folder(), "exported"), symlinks=True, dirs_exist_ok=True)
    said = subprocess.run(["podman", "logs", clusters.NODE], capture_output=True, check=False)
    pathlib.Path(log_folder(), "cluster.log").write_bytes(said.stdout + said.stderr)


if __name__ == "__main__":
    sys.exit(main())
