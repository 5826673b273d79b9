"""Big images for the pull benchmark: the Rust tool chain's own files cut into layers, many small files, many layers,
images that share most of their layers, and ten that share one."""

import itertools
import os
import subprocess

import userland
from layer import Blob, Layer

LAYER_BYTES = 120_000_000
LAYERS = 5
FILES, FOLDERS, FILES_PER_LAYER = 20_000, 200, 5_000
MANY_LAYERS, FILES_OF_MANY = 60, 20
TEN, TENTH_BYTES = 10, 20_000_000
SHELL = {"Cmd": ["sh"]}


def push_big(registry, program: str) -> None:
    base = userland.busybox(program)
    toolchain = _toolchain(LAYERS - 1)
    registry.push("bench/toolchain:1", [base, *toolchain], SHELL)
    registry.push("bench/shared:1", [base, *toolchain[:-1], _end_of_toolchain()], SHELL)
    registry.push("bench/manyfiles:1", [base, *_many_files()], SHELL)
    registry.push("bench/manylayers:1", [base, *_many_layers()], SHELL)
    for number, layer in enumerate(itertools.islice(_cut(_regular_files(_sysroot()), TENTH_BYTES), TEN)):
        registry.push(f"bench/tenth-{number}:1", [base, layer], SHELL)


def _toolchain(wanted: int) -> list[Blob]:
    return list(itertools.islice(_cut(_regular_files(_sysroot()), LAYER_BYTES), wanted))


def _end_of_toolchain() -> Blob:
    return next(_cut(reversed(list(_regular_files(_sysroot()))), TENTH_BYTES))


def _sysroot() -> str:
    return subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()


def _cut(paths, size: int):
    """Layers of the files, each of `size` bytes and the rest of its last file."""
    layer, held = Layer(), 0
    for path in paths:
        layer.program(os.path.relpath(path, _sysroot()), path)
        held += os.path.getsize(path)
        if held > size:
            yield layer.done()
            layer, held = Layer(), 0
    if held:
        yield layer.done()


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


def _many_layers() -> list[Blob]:
    return [_few_files(number) for number in range(MANY_LAYERS - 1)]


def _few_files(layer_number: int) -> Blob:
    layer = Layer()
    for number in range(FILES_OF_MANY):
        layer.file(f"lots/{number:03d}/{layer_number:05d}.txt", f"{layer_number} ".encode() * (number * 100))
    return layer.done()
