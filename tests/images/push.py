"""Puts images into a registry by its HTTP interface (OCI distribution)."""

import json
import urllib.error
import urllib.request

from layer import Blob, digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Registry:
    """The registry at `url`, for one architecture's images."""

    def __init__(self, url: str, architecture: str) -> None:
        self.url = url.rstrip("/")
        self.architecture = architecture
        self.platform = {"architecture": architecture, "os": "linux"}

    def push(self, reference: str, layers: list[Blob], config: dict) -> str:
        """Pushes one image and gives its manifest's digest."""
        repository, tag = reference.rsplit(":", 1)
        image = self._config(layers, config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **self._blob(repository, image)},
            "layers": [{"mediaType": LAYER, **self._blob(repository, blob.compressed)} for blob in layers],
        }
        return self._manifest(repository, tag, MANIFEST, manifest)[0]

    def push_index(self, reference: str, layers: list[Blob], config: dict) -> str:
        """The same behind an index with one platform."""
        repository, tag = reference.rsplit(":", 1)
        self.push(reference, layers, config)
        with self._request("GET", f"{repository}/manifests/{tag}", headers={"Accept": MANIFEST}) as answer:
            manifest = answer.read()
        entry = {"mediaType": MANIFEST, "digest": digest(manifest), "size": len(manifest), "platform": self.platform}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        return self._manifest(repository, tag, INDEX, index)[0]

    def _config(self, layers: list[Blob], config: dict) -> bytes:
        document = {
            **self.platform,
            "created": "2024-01-01T00:00:00Z",
            "config": {"Env": [PATH], **config},
            "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in layers]},
        }
        return json.dumps(document, sort_keys=True).encode()

    def _manifest(self, repository: str, tag: str, kind: str, document: dict) -> tuple[str, int]:
        content = json.dumps(document).encode()
        self._request("PUT", f"{repository}/manifests/{tag}", content, {"Content-Type": kind}).close()
        return digest(content), len(content)

    def _blob(self, repository: str, content: bytes) -> dict:
        name = digest(content)
        if not self._has(f"{repository}/blobs/{name}"):
            self._upload(repository, name, content)
        return {"digest": name, "size": len(content)}

    def _has(self, path: str) -> bool:
        try:
            self._request("HEAD", path).close()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise
        return True

    def _upload(self, repository: str, name: str, content: bytes) -> None:
        with self._request("POST", f"{repository}/blobs/uploads/", b"") as answer:
            place = answer.headers["Location"]
        place = place if place.startswith("http") else self.url + place
        place += ("&" if "?" in place else "?") + "digest=" + name
        request = urllib.request.Request(place, data=content, method="PUT")
        request.add_header("Content-Type", "application/octet-stream")
        urllib.request.urlopen(request).close()

    def _request(self, method: str, path: str, content: bytes | None = None, headers: dict | None = None):
        url = f"{self.url}/v2/{path}"
        return urllib.request.urlopen(urllib.request.Request(url, data=content, method=method, headers=headers or {}))
