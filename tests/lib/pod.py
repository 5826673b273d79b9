"""A pod made through crictl, for cases whose containers differ."""

import json
import pathlib

from runtimes import Runtime


class Pod:
    """Its files (configurations, logs) are in a folder of its own."""

    def __init__(self, runtime: Runtime, folder: pathlib.Path, name: str, **config) -> None:
        self.runtime = runtime
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = self._write("pod.json", {
            "metadata": {"name": name, "namespace": "tests", "uid": name, "attempt": 1},
            "hostname": name, "log_directory": str(self.folder), "linux": {}, **config,
        })
        self.sandbox = runtime.crictl("runp", self.config).strip()

    def make(self, name: str, **config) -> str:
        """Makes a container, which says what it says to a log of its own; its id."""
        document = {"metadata": {"name": name}, "log_path": f"{name}.log", **config}
        path = self._write(f"{name}.json", document)
        return self.runtime.crictl("create", self.sandbox, path, self.config).strip()

    def remove(self) -> None:
        self.runtime.crictl("stopp", self.sandbox)
        self.runtime.crictl("rmp", self.sandbox)

    def _write(self, name: str, document: dict) -> str:
        path = self.folder / name
        path.write_text(json.dumps(document))
        return str(path)
