"""Image layers, made file by file: reproducible tars, compressed with gzip."""

import gzip
import hashlib
import io
import os
import tarfile


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Layer:
    """A layer that is being written. Parents are added as they are needed; every time stamp is the same."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w", format=tarfile.GNU_FORMAT)
        self._directories: set[str] = set()

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._add(name, tarfile.REGTYPE, mode, content=content)

    def program(self, name: str, host_path: str, mode: int = 0o755) -> None:
        with open(os.path.realpath(host_path), "rb") as file:
            self.file(name, file.read(), mode)

    def directory(self, name: str, mode: int = 0o755) -> None:
        name = name.strip("/")
        if name and name not in self._directories:
            self._directories.add(name)
            self._add(name, tarfile.DIRTYPE, mode)

    def symlink(self, name: str, target: str) -> None:
        self._add(name, tarfile.SYMTYPE, 0o777, target=target)

    def hard_link(self, name: str, target: str) -> None:
        self._add(name, tarfile.LNKTYPE, 0o755, target=target)

    def tree(self, root: str) -> None:
        """Adds what is below the host's folder `root`."""
        for folder, folders, files in os.walk(root):
            folders.sort()
            inside = os.path.relpath(folder, root)
            if inside != ".":
                self.directory(inside)
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in sorted(files + links):
                self.copy(os.path.join(folder, name), os.path.normpath(os.path.join(inside, name)))

    def copy(self, host_path: str, name: str) -> None:
        """Adds one of the host's files or links as it is."""
        if os.path.islink(host_path):
            self.symlink(name, os.readlink(host_path))
        elif os.path.isfile(host_path):
            self.program(name, host_path, os.stat(host_path).st_mode & 0o7777)

    def done(self, level: int = 6) -> "Blob":
        self._tar.close()
        raw = self._bytes.getvalue()
        return Blob(digest(raw), gzip.compress(raw, level, mtime=0))

    def _add(self, name: str, kind: bytes, mode: int, content: bytes = b"", target: str = "") -> None:
        name = name.strip("/")
        self.directory(os.path.dirname(name))
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname = kind, mode, target
        entry.size, entry.mtime = len(content), 1
        self._tar.addfile(entry, io.BytesIO(content))


class Blob:
    """A finished layer: the digest of the tar and the compressed bytes."""

    def __init__(self, diff_id: str, compressed: bytes) -> None:
        self.diff_id = diff_id
        self.compressed = compressed


def single_file(name: str, content: bytes) -> Blob:
    layer = Layer()
    layer.file(name, content)
    return layer.done()
