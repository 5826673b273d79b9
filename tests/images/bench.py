"""Big images for the pull benchmark: the Rust tool chain's own files cut into layers, and one of many small files."""

import os
import subprocess

import userland
from layer import Blob, Layer

LAYER_BYTES = 120_000_000
LAYERS = 5
FILES, FOLDERS, FILES_PER_LAYER = 20_000, 200, 5_000


def push_big(registry, program: str) -> None:
    base = userland.busybox(program)
    registry.push("bench/toolchain:1", [base, *_toolchain(LAYERS - 1)], {"Cmd": ["sh"]})
    registry.push("bench/manyfiles:1", [base, *_many_files()], {"Cmd": ["sh"]})


def _toolchain(wanted: int) -> list[Blob]:
    root = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
    layers, layer, size = [], Layer(), 0
    for path in _regular_files(root):
        layer.program(os.path.relpath(path, root), path)
        size += os.path.getsize(path)
        if size > LAYER_BYTES:
            layers.append(layer.done())
            layer, size = Layer(), 0
        if len(layers) == wanted:
            return layers
    return [*layers, layer.done()]


def _regular_files(root: str):
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def _many_files() -> list[Blob]:
    layers, layer = [], Layer()
    for number in range(FILES):
        layer.file(f"lots/{number % FOLDERS:03d}/{number:05d}.txt", b"x" * (number % 4096))
        if number % FILES_PER_LAYER == FILES_PER_LAYER - 1:
            layers.append(layer.done())
            layer = Layer()
    return layers
