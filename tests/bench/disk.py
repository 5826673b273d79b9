"""How much disk an image's files take by themselves: as many blocks as each file fills, and one for each folder."""

import functools
import json
import os
import pathlib
import tarfile

BLOCK = 4096


def needed_by(*images: str) -> int:
    return sum(map(_needed, images))


@functools.cache
def _needed(image: str) -> int:
    """Of `registry.k8s.io/NAME:TAG`, from the registry's own data: no runtime is asked."""
    data = pathlib.Path(os.environ["CORTEN_IMAGES"], "registry/docker/registry/v2")
    name, tag = image.split("/", 1)[1].rsplit(":", 1)
    digest = (data / "repositories" / name / "_manifests/tags" / tag / "current/link").read_text()
    manifest = json.loads(_blob(data, digest).read_text())
    return sum(_of_layer(_blob(data, layer["digest"])) for layer in manifest["layers"])


def _blob(data: pathlib.Path, digest: str) -> pathlib.Path:
    algorithm, digits = digest.split(":")
    return data / "blobs" / algorithm / digits[:2] / digits / "data"


def _of_layer(path: pathlib.Path) -> int:
    with tarfile.open(path) as layer:
        return sum(_blocks(entry) * BLOCK for entry in layer)


def _blocks(entry: tarfile.TarInfo) -> int:
    """What a hard or a symbolic link says is in its folder or its inode."""
    return -(-entry.size // BLOCK) if entry.isreg() else int(entry.isdir())
