"""An OCI layout of one image with one layer: a folder that becomes an image."""

import hashlib
import json
import pathlib
import platform
import subprocess

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


class Layout:
    """Is written to `folder`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)

    def of_tree(self, tree: pathlib.Path, config: dict) -> pathlib.Path:
        """An image of what is in `tree`, and in no file system that is mounted there; the layout's folder."""
        part = self._blobs / "layer"
        subprocess.run(["tar", "--one-file-system", "--numeric-owner", "-c", "-f", part, "-C", tree, "."], check=True)
        with part.open("rb") as layer:
            name = hashlib.file_digest(layer, "sha256").hexdigest()
        entry = {"mediaType": LAYER, "digest": f"sha256:{name}", "size": part.stat().st_size}
        part.rename(self._blobs / name)
        document = {
            "architecture": ARCHITECTURES[platform.machine()], "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [entry["digest"]]},
        }
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self._blob(CONFIG, document), "layers": [entry]}
        index = {"schemaVersion": 2, "manifests": [self._blob(MANIFEST, manifest)]}
        (self.folder / "index.json").write_text(json.dumps(index))
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return self.folder

    def _blob(self, kind: str, document: dict) -> dict:
        content = json.dumps(document).encode()
        name = hashlib.sha256(content).hexdigest()
        (self._blobs / name).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(content)}
