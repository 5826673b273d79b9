"""A podman in a node of the tests, with which kind makes its nodes: on the node's own disk, without systemd."""

import os
import pathlib
import subprocess

from node import ENTRYPOINT, run

STORAGE = """[storage]
driver = "overlay"
runroot = "/run/podman-storage"
graphroot = "{folder}/graph"
"""
CONTAINERS = """[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[containers]
log_driver = "k8s-file"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""


def configure(folder: pathlib.Path) -> None:
    """From now on whoever calls podman here, kind too, has its images and volumes in this folder."""
    folder.mkdir()
    for variable, text in (("CONTAINERS_STORAGE_CONF", STORAGE), ("CONTAINERS_CONF", CONTAINERS)):
        path = folder / f"{variable.lower()}.conf"
        path.write_text(text.format(folder=folder))
        os.environ[variable] = str(path)
    os.environ["KIND_EXPERIMENTAL_PROVIDER"] = "podman"


def take(tree: pathlib.Path, name: str) -> None:
    """An image of this tree, with what kind's images say of themselves."""
    entrypoint = ", ".join(f'"{word}"' for word in ENTRYPOINT)
    changes = (f"ENTRYPOINT [{entrypoint}]", "STOPSIGNAL SIGRTMIN+3", "ENV container=docker")
    words = [word for change in changes for word in ("--change", change)]
    tar = ["tar", "--one-file-system", "--numeric-owner", "-c", "-C", str(tree), "."]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
        run(["podman", "import", *words, "-", name], packed.stdout)
    if packed.returncode != 0:
        raise AssertionError(f"{' '.join(tar)}: status {packed.returncode}")


def left() -> list[str]:
    """The containers and volumes that there are."""
    return run(["podman", "ps", "--all", "--quiet"]).split() + run(["podman", "volume", "ls", "--quiet"]).split()
