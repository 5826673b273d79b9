"""Hostile images: the suites' busybox with one more layer, imported from an OCI layout."""

import json
import os
import pathlib
import subprocess
import sys
import urllib.request

import registry

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "images"))
from layer import Blob, Layer, digest  # noqa: E402
from push import CONFIG, INDEX, LAYER, MANIFEST  # noqa: E402

BASE = "e2e-test-images/busybox"
TAG = "1.29-2"


class Images:
    """Makes images on top of busybox, each in a layout of its own, and imports them."""

    def __init__(self, scratch: pathlib.Path, endpoint: str) -> None:
        self.scratch = scratch
        self.endpoint = endpoint
        index = json.loads(self._fetch(f"manifests/{TAG}", INDEX))
        manifest = json.loads(self._fetch(f"manifests/{index['manifests'][0]['digest']}", MANIFEST))
        self.config = json.loads(self._fetch(f"blobs/{manifest['config']['digest']}"))
        self.layers = [(self._fetch(f"blobs/{layer['digest']}"), layer) for layer in manifest["layers"]]

    def make(self, name: str, layer: Layer, **config) -> str:
        """Imports busybox with one more layer and these keys of the image's configuration. Gives its name."""
        return self.imported(name, layer.done(), config)

    def imported(self, name: str, top: Blob, config: dict) -> str:
        folder = self.scratch / name
        blobs = folder / "blobs/sha256"
        blobs.mkdir(parents=True)

        def put(content: bytes) -> dict:
            (blobs / digest(content).removeprefix("sha256:")).write_bytes(content)
            return {"digest": digest(content), "size": len(content)}

        layers = [{"mediaType": LAYER, **put(content)} for content, _ in self.layers]
        layers.append({"mediaType": LAYER, **put(top.compressed)})
        document = {**self.config, "config": {**self.config["config"], **config}}
        document["rootfs"] = {**document["rootfs"], "diff_ids": [*document["rootfs"]["diff_ids"], top.diff_id]}
        document.pop("history", None)
        image = {"mediaType": CONFIG, **put(json.dumps(document).encode())}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": image, "layers": layers}
        entry = {"mediaType": MANIFEST, **put(json.dumps(manifest).encode())}
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        reference = f"localhost/{name}:hostile"
        corten = os.path.join(os.environ["CORTEN_DIST"], "corten")
        done = subprocess.run([corten, "image", "import", folder, "--name", reference], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(done.stderr)
        return reference

    def _fetch(self, path: str, accept: str = "*/*") -> bytes:
        url = f"http://{registry.ADDRESS}/v2/{BASE}/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as answer:
            return answer.read()


class Refused(AssertionError):
    """Corten did not take the image."""
