"""An image with all that a layer can hold, a registry that serves it, and a look at what became of it on a disk."""

import gzip
import hashlib
import http.server
import io
import json
import os
import random
import tarfile
import threading

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    """A layer's tar and what its files are: each path with its content, or the target of its link."""

    def __init__(self, name: str, files: int, large: int, dice: random.Random) -> None:
        self.files: dict[str, bytes | str] = {}
        for number in range(files):
            content = dice.randbytes(dice.choice((0, 10, 3000, 9000)))
            self.files[f"{name}/{number % 7}/{number}"] = content
        for number in range(large):
            self.files[f"{name}/large-{number}"] = dice.randbytes(2 << 20)
        self.files[f"{name}/link"] = "0/0"
        self.tar = self._pack()
        self.blob = gzip.compress(self.tar, 1)

    def _pack(self) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, content in self.files.items():
                entry = tarfile.TarInfo(path)
                if isinstance(content, str):
                    entry.type, entry.linkname = tarfile.SYMTYPE, content
                    tar.addfile(entry)
                else:
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        return packed.getvalue()


class Registry(http.server.ThreadingHTTPServer):
    """Serves images on the loopback; counts how often each blob was asked for."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.things: dict[str, bytes] = {}
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def name(self, tag: str) -> str:
        return f"127.0.0.1:{self.server_port}/app:{tag}"

    def push(self, tag: str, layers: list[Layer]) -> None:
        rootfs = {"type": "layers", "diff_ids": [digest(layer.tar) for layer in layers]}
        config = self._blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode())
        blobs = [self._blob(layer.blob) for layer in layers]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": blobs}
        text = json.dumps(manifest).encode()
        self.things[tag] = self.things[digest(text)] = text

    def _blob(self, data: bytes) -> dict:
        self.things[digest(data)] = data
        return {"mediaType": "application/octet-stream", "digest": digest(data), "size": len(data)}


class Handler(http.server.BaseHTTPRequestHandler):
    """GET of manifests and blobs, by the last part of the path."""

    def do_GET(self) -> None:  # noqa: N802  (the base class's name)
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        thing = self.server.things.get(name)
        self.server.asked.append(name)
        if self.path == "/v2/":
            thing = b"{}"
        self.send_response(404 if thing is None else 200)
        self.send_header("Content-Length", str(len(thing or b"")))
        if "/manifests/" in self.path:
            self.send_header("Content-Type", MANIFEST)
        self.end_headers()
        try:
            self.wfile.write(thing or b"")
        except OSError:
            pass  # the daemon was killed

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def differences(root: str, layers: list[Layer]) -> list[str]:
    """How the layers below a daemon's root differ from what was pushed: nothing of Corten's own check is asked."""
    wrong = []
    for layer in layers:
        tree = tree_of(root, layer)
        wrong += [f"no layer {digest(layer.tar)}"] if tree is None else compare(tree, layer.files)
    return wrong


def tree_of(root: str, layer: Layer) -> str | None:
    """Where a layer lies below a daemon's root."""
    folder = os.path.join(root, "layers")
    for name in os.listdir(folder):
        if not name.startswith("."):
            with open(os.path.join(folder, name, "record.json"), encoding="utf-8") as record:
                if json.load(record)["diff_id"] == digest(layer.tar):
                    return os.path.join(folder, name, "fs")
    return None


def compare(tree: str, files: dict[str, bytes | str]) -> list[str]:
    wrong = []
    for path, content in files.items():
        try:
            full = os.path.join(tree, path)
            there = os.readlink(full) if isinstance(content, str) else open(full, "rb").read()
        except OSError as error:
            wrong.append(f"{path}: {error.strerror}")
            continue
        if there != content:
            wrong.append(f"{path}: {len(there)} bytes that are others")
    there = sum(len(names) for _, _, names in os.walk(tree))
    return wrong + ([f"{there} files instead of {len(files)}"] if there != len(files) else [])
