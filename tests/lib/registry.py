"""The node's registry: the images of tests/images behind Debian's docker-registry, on the node's loopback."""

import os
import pathlib
import urllib.request

from service import Service
from wait import until

# Not 5000: a suite's own pods on the host's network like that one.
ADDRESS = "127.0.0.1:5080"
MIRRORED = ("registry.k8s.io", "k8s.gcr.io", "gcr.io", "public.ecr.aws", "docker.io")


def start(images: pathlib.Path) -> Service:
    """Serves `images`/registry, read-only: the cache stays as it was made."""
    config = pathlib.Path(os.environ["CORTEN_NODE"], "registry.yml")
    config.write_text(
        "version: 0.1\nlog: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {images}/registry}}, maintenance: {{readonly: {{enabled: true}}}}}}\n"
        f"http: {{addr: '{ADDRESS}'}}\n"
    )
    service = Service("registry", ["docker-registry", "serve", config])
    until(lambda: urllib.request.urlopen(f"http://{ADDRESS}/v2/").status == 200, 30, "the registry answers")
    return service


def write_mirrors(folder: pathlib.Path) -> None:
    """A hosts.toml for each registry that the suites name, all leading to the node's own."""
    for host in MIRRORED:
        write_mirror(folder, host, ADDRESS)


def write_mirror(folder: pathlib.Path, host: str, address: str) -> None:
    """A hosts.toml that leads from `host` to `address`, which may have a path, and nowhere else: a node has no way out.

    Renamed into place.
    """
    (folder / host).mkdir(parents=True, exist_ok=True)
    beside = folder / host / "new"
    beside.write_text(
        f'server = "http://{address}"\n\n[host."http://{address}"]\n  capabilities = ["pull", "resolve"]\n'
    )
    beside.rename(folder / host / "hosts.toml")
