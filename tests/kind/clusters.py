"""kind itself makes a cluster of the node's image, by podman, and uses it. In the order of their names."""

import json
import os
import pathlib
import shutil
import subprocess
import unittest

import podman
from commands import LOADED
from node import PATIENCE, assemble, run
from wait import until

# What `kind build node-image` puts beside its base image.
PROGRAMS = ("kubeadm", "kubectl")
VERSION = "v1.36.0"
CONTROL_PLANE = tuple(f"registry.k8s.io/{name}" for name in (
    f"kube-apiserver:{VERSION}", f"kube-controller-manager:{VERSION}", f"kube-scheduler:{VERSION}", f"kube-proxy:{VERSION}",
    "etcd:3.6.8-0", "coredns/coredns:v1.14.2"))
IMAGE = "localhost/corten-kind:tests"
NODE = "kind-control-plane"
# Which of kind's files are programs: the modes are those of its Dockerfile.
PROGRAM_FOLDERS = ("usr/local/bin", "kind/bin")
# The tests do not build kindnetd: the pods' network is that of Corten's package. On cgroup v1 the kubelet has to be told to start.
CONFIG = """kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {disableDefaultCNI: true}
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
"""
LIMIT = 600


def make_image(archives: list[pathlib.Path]) -> None:
    """As deploy/kind makes it of an image of kind's: kind's own files are there first, and containerd's unit is."""
    work = pathlib.Path(os.environ["CORTEN_NODE"], "kind-image")
    work.mkdir()
    podman.take(assemble(work, archives, put_kind), IMAGE)


def put_kind(tree: pathlib.Path) -> None:
    """The base image's files, with its units enabled, and Kubernetes' programs."""
    base = pathlib.Path(shutil.which("kind")).with_name("base")
    shutil.copytree(base, tree, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in base.rglob("*"):
        relative = path.relative_to(base)
        program = path.is_dir() or str(relative.parent) in PROGRAM_FOLDERS
        (tree / relative).chmod(0o755 if program else 0o644)
    for program in PROGRAMS:
        shutil.copy2(shutil.which(program), tree / "usr/bin" / program)
    (tree / "kind/version").write_text(VERSION)
    (tree / "etc/kubernetes/manifests").mkdir(parents=True)
    run(["chroot", tree, "systemctl", "enable", "kubelet", "containerd", "undo-mount-hacks"])


class Clusters(unittest.TestCase):
    """One cluster through all of it. `archive` holds the image that is loaded."""

    archive: pathlib.Path
    folder = pathlib.Path(os.environ["CORTEN_NODE"], "kind")
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder.mkdir()
        (cls.folder / "kind.yaml").write_text(CONFIG)
        os.environ["KUBECONFIG"] = str(cls.folder / "kubeconfig")

    def kind(self, *words: str) -> str:
        done = subprocess.run(["kind", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=LIMIT)
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])
        return done.stdout

    def kubectl(self, *words: str) -> str:
        return run(["kubectl", *words])

    def images(self) -> set[str]:
        told = json.loads(run(["podman", "exec", NODE, "crictl", "images", "-o", "json"]))
        return {tag for image in told["images"] for tag in image["repoTags"]}

    def test_1_a_cluster_is_made_of_the_image(self):
        self.kind("create", "cluster", "--image", IMAGE, "--config", str(self.folder / "kind.yaml"), "--retain")
        self.kubectl("wait", "node", NODE, "--for=condition=Ready", f"--timeout={PATIENCE}s")
        node = json.loads(self.kubectl("get", "node", NODE, "-o", "json"))
        self.assertRegex(node["status"]["nodeInfo"]["containerRuntimeVersion"], r"^corten://\d")
        self.assertEqual(self.kind("get", "nodes").split(), [NODE])

    def test_2_its_images_came_with_it(self):
        self.assertEqual(self.images(), set(CONTROL_PLANE))

    def test_3_its_own_pods_run_and_are_corten_s(self):
        self.kubectl("-n", "kube-system", "rollout", "status", "ds/kube-proxy", f"--timeout={PATIENCE}s")
        self.kubectl("-n", "kube-system", "rollout", "status", "deploy/coredns", f"--timeout={PATIENCE}s")
        pods = json.loads(self.kubectl("get", "pods", "-A", "-o", "json"))["items"]
        ids = {one["containerID"] for pod in pods for one in pod["status"]["containerStatuses"]}
        self.assertEqual(ids, {f"corten://{name}" for name in run(["podman", "exec", NODE, "crictl", "ps", "-q"]).split()})

    def test_4_an_image_that_is_loaded_runs(self):
        self.kind("load", "image-archive", str(self.archive))
        self.assertIn(LOADED, self.images())
        # kind makes no account for it: kubeadm's controllers do, when they come to it.
        until(lambda: self.kubectl("get", "serviceaccount", "default"), PATIENCE, "the namespace has its account")
        self.kubectl("run", "web", f"--image={LOADED}", "--image-pull-policy=Never", "--port=80")
        self.kubectl("wait", "pod/web", "--for=condition=Ready", f"--timeout={PATIENCE}s")
        page = until(lambda: self.kubectl("get", "--raw", "/api/v1/namespaces/default/pods/web:80/proxy/"), PATIENCE, "a page")
        self.assertIn("<html", page.lower())
        self.assertEqual(self.kubectl("exec", "web", "--", "hostname").strip(), "web")
        self.kubectl("delete", "pod", "web", f"--timeout={PATIENCE}s")

    def test_5_its_logs_are_exported(self):
        folder = self.folder / "logs"
        self.kind("export", "logs", str(folder))
        self.assertIn("corten.service", (folder / NODE / "journal.log").read_text(errors="replace"))
        self.assertIn("kube-apiserver", (folder / NODE / "images.log").read_text())
        self.assertTrue(list((folder / NODE / "pods").glob("kube-system_kube-apiserver-*/*/0.log")))

    def test_6_nothing_is_left_of_a_deleted_cluster(self):
        self.kind("delete", "cluster")
        self.assertEqual(podman.left(), [])
