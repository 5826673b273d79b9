"""The node in a container: its file system, made of deploy/kind; how it is run, as kind has docker run one; and its commands."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable

from kubelet import CONFIG
from layout import Layout
from pod import Pod
from runtimes import Corten
from wait import until

HERE = pathlib.Path(__file__).resolve().parent
DEPLOY = HERE.parents[1] / "deploy"
IMAGE = "localhost/corten-node:tests"
# Of a slow host: systemd, the import of images, the kubelet's first look at its node.
PATIENCE = 180
SOCKET = "unix:///run/containerd/containerd.sock"
ENTRYPOINT = ["/usr/local/bin/entrypoint", "/sbin/init"]
#: NamespaceMode of the CRI: systemd is the first process of its PID namespace.
CONTAINER = 1
# What docker gives a node of kind's, and its image says.
IMAGE_CONFIG = {"Env": ["container=docker", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": ENTRYPOINT, "StopSignal": "SIGRTMIN+3"}
# The line of the log that kind waits for before it goes on.
REACHED = re.compile(r"Reached target .*Multi-User System")
MANIFESTS = "/var/lib/kubelet/manifests"
KUBELET = {**CONFIG, "staticPodPath": MANIFESTS, "containerRuntimeEndpoint": SOCKET, "cgroupDriver": "systemd",
           "evictionHard": {"memory.available": "10Mi", "nodefs.available": "0%", "imagefs.available": "0%",
                            "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"}}


class Refused(AssertionError):
    """A command in the node ended with another status than 0."""


def make_image(runtime: Corten, archives: list[pathlib.Path]) -> pathlib.Path:
    """An image of the node, which `archives` came with, in the runtime's store; the node's tree, as long as this lives."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="image.", dir=os.environ["CORTEN_NODE"]))
    tree = assemble(work, archives)
    layout = Layout(work / "layout").of_tree(tree, IMAGE_CONFIG)
    run(["corten", "image", "import", str(layout), "--name", IMAGE])
    shutil.rmtree(layout)
    return tree


def assemble(work: pathlib.Path, archives: list[pathlib.Path], before: Callable[[pathlib.Path], None] = lambda tree: None) -> pathlib.Path:
    """The node's Debian, with the package and the files of deploy/kind put into it by its own script.

    `before` puts into it what was there before that.
    """
    tree = work / "tree"
    for name in ("upper", "work", "tree"):
        (work / name).mkdir()
    lower = pathlib.Path(os.environ["CORTEN_KIND_NODE"], "tree")
    run(["mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={work}/upper,workdir={work}/work", "overlay", tree])
    for program, place in (("kubelet", "usr/bin"), ("crictl", "usr/local/bin")):
        shutil.copy2(shutil.which(program), tree / place / program)
    before(tree)
    (tree / "kind" / "images").mkdir(parents=True)
    for archive in archives:
        shutil.copy(archive, tree / "kind" / "images")
    for plugin in (tree / "usr/lib/cni").iterdir():
        shutil.copy2(plugin, tree / "opt/cni/bin")
    shutil.copytree(DEPLOY / "kind", tree / "mnt/kind")
    (package,) = pathlib.Path(os.environ["CORTEN_PACKAGES"], "one").glob("*.deb")
    shutil.copy(package, tree / "mnt/corten.deb")
    run(["mount", "-t", "proc", "proc", tree / "proc"])
    try:
        print(run(["chroot", tree, "/mnt/kind/into-node", "/mnt/corten.deb"]), flush=True)
    finally:
        run(["umount", tree / "proc"])
    shutil.rmtree(tree / "mnt/kind")
    shutil.copy(tree / "usr/share/corten/10-corten.conflist", tree / "etc/cni/net.d")
    return tree


class Node:
    """Runs at once. Its /var is a folder of the host's, filled from the image, as docker fills a new volume."""

    def __init__(self, runtime: Corten, tree: pathlib.Path) -> None:
        self.runtime = runtime
        folder = pathlib.Path(tempfile.mkdtemp(prefix="node.", dir=os.environ["CORTEN_NODE"]))
        self.var = folder / "var"
        run(["cp", "-a", tree / "var", self.var])
        # A journal that outlives the node.
        (self.var / "log/journal").mkdir(parents=True, exist_ok=True)
        privileged = {"security_context": {"privileged": True, "namespace_options": {"pid": CONTAINER}}}
        self.pod = Pod(runtime, folder, "kind-node", linux=privileged)
        self.container = self.pod.make(
            "node", image={"image": IMAGE}, linux=privileged, tty=True,
            mounts=[{"container_path": "/var", "host_path": str(self.var)}],
        )
        self.log = folder / "node.log"
        runtime.crictl("start", self.container)
        until(self.is_up, PATIENCE, "the node says that it has come to its last target")

    def is_up(self) -> bool:
        state = json.loads(self.runtime.crictl("inspect", self.container))["status"]["state"]
        if state != "CONTAINER_RUNNING":
            raise SystemExit(f"the node has ended:\n{self.log.read_text()[-4000:]}")
        return REACHED.search(self.log.read_text(errors="replace")) is not None

    def run(self, *words: str) -> str:
        """What a command says in the node, as kind runs them: Refused with its words where its status is not 0."""
        return run(["crictl", "exec", "-s", self.container, *words])

    def run_with(self, given: pathlib.Path, *words: str) -> str:
        """The same with a file as its input."""
        with given.open("rb") as source:
            return run(["crictl", "exec", "-i", self.container, *words], source)

    def start_kubelet(self, pod: dict) -> None:
        """As kubeadm does: the configuration, a static pod, and a word to systemd."""
        place = self.var / "lib/kubelet"
        (place / "manifests").mkdir(parents=True, exist_ok=True)
        (place / "config.yaml").write_text(json.dumps(KUBELET))
        (place / "manifests" / "pod.json").write_text(json.dumps(pod))
        self.run("systemctl", "start", "kubelet")


def run(command: list, given=subprocess.DEVNULL) -> str:
    done = subprocess.run([str(word) for word in command], stdin=given, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode != 0:
        said = (done.stdout.strip() + " " + done.stderr.strip()).strip()
        raise Refused(f"{' '.join(map(str, command))}: status {done.returncode}: {said[-2000:]}")
    return done.stdout
