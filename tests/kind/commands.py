"""`ctr` and `containerd` of deploy/kind on a real daemon: what kind and minikube call, and what is refused."""

import json
import os
import pathlib
import shutil
import tomllib
import unittest

import leftovers
from node import DEPLOY, Refused, run
from runtimes import Corten

# Of the first a node brings an archive along; the second is loaded.
BROUGHT = leftovers.IMAGE
LOADED = "registry.k8s.io/e2e-test-images/nginx:1.14-2"
FILES = DEPLOY / "kind" / "node"
CTR = ("ctr", "--namespace=k8s.io", "images")
# Commands, and what their refusal says to do.
REFUSED = {
    ("ctr", "-n=k8s.io", "images", "tag", "--force", BROUGHT, "a/b:1"): "kind load",
    ("ctr", "-n=k8s.io", "images", "push", BROUGHT): "push from",
    ("ctr", "-n=k8s.io", "images", "pull", "a/b:1"): "crictl pull a/b:1",
    ("ctr", "--namespace=moby", "images", "list"): "k8s.io",
    (*CTR, "import", "--snapshotter=native", "-"): "overlayfs alone",
    (*CTR, "import", "--no-unpack", "-"): "no option --no-unpack",
    (*CTR, "import", "a", "b"): "one archive at a time",
    (*CTR, "import"): "ctr images import FILE",
    (*CTR, "remove", "localhost/none:1"): "localhost/none:1",
    (*CTR, "list", "--all"): "-q",
    ("ctr", "run", "x"): "crictl",
    ("containerd",): "systemctl status corten",
}


class Commands(unittest.TestCase):
    """`archive` holds the image that is loaded."""

    runtime: Corten
    archive: pathlib.Path
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        shutil.copy(FILES / "etc/containerd/config.toml", "/etc/containerd")
        os.environ["PATH"] = f"{FILES}/usr/local/bin:{os.environ['PATH']}"

    def images(self) -> set[str]:
        return set(run([*CTR, "list", "-q"]).split())

    def status(self, image: str) -> dict:
        """As kind reads it: `id` and `repoTags`."""
        return json.loads(self.runtime.crictl("inspecti", image))["status"]

    def test_kind_reads_the_snapshotter_of_containerds_configuration(self):
        config = tomllib.loads(run(["containerd", "config", "dump"]))
        self.assertEqual(config["version"], 2)
        self.assertEqual(config["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["snapshotter"], "overlayfs")

    def test_minikube_reads_a_version(self):
        self.assertRegex(run(["containerd", "--version"]), r"^containerd \S+ v2\.\d+\.\d+ corten-\d\S+\n$")

    def test_kind_loads_an_archive_through_a_pipe(self):
        run([*CTR, "remove", LOADED])
        self.assertNotIn(LOADED, self.images())
        with self.archive.open("rb") as given:
            run([*CTR, "import", "--all-platforms", "--digests", "--snapshotter=overlayfs", "-"], given)
        self.assertIn(LOADED, self.status(LOADED)["repoTags"])
        self.assertIn(LOADED, self.images())

    def test_minikube_loads_a_file_and_finds_the_image(self):
        run([*CTR, "remove", LOADED])
        run(["ctr", "-n=k8s.io", "images", "import", str(self.archive)])
        found = run(["ctr", "-n=k8s.io", "images", "ls", f"name=={LOADED}"])
        self.assertIn(self.status(LOADED)["id"], found)
        self.assertIn(LOADED, found)

    def test_minikube_does_not_find_what_is_not_there(self):
        with self.assertRaises(Refused):
            run(["ctr", "-n=k8s.io", "images", "ls", "name==localhost/none:1"])

    def test_minikube_saves_an_image_that_loads_again(self):
        saved = self.archive.with_name("saved.tar")
        before = self.status(BROUGHT)["id"]
        run(["ctr", "-n=k8s.io", "images", "export", saved, BROUGHT])
        run([*CTR, "remove", BROUGHT])
        run([*CTR, "import", saved])
        self.assertEqual(self.status(BROUGHT)["id"], before)

    def test_what_is_not_answered_is_refused_with_what_to_do(self):
        for words, advice in REFUSED.items():
            with self.subTest(command=" ".join(words)):
                with self.assertRaises(Refused) as refused:
                    run(words)
                self.assertIn(advice, str(refused.exception))
