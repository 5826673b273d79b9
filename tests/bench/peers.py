"""Who is measured: the runtimes of all tiers, and those that only the bench has.

Each has the same conflist, the same registry behind its names and the same images. Where a controller is on a host's v2
hierarchy beside v1 (hybrid), crun starts nothing: a runtime with crun is then started in a mount namespace without that
hierarchy. A crun that is too old for the bundles that peers write starts nothing either: CRI-O has runc then.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import registry
import runtimes
from runtimes import CNI_CONF, PLUGINS, Containerd, Corten, Runtime

HYBRID = pathlib.Path("/sys/fs/cgroup/unified")
BUNDLED = "corten-cni"
OCI_VERSION = "1.3.0"
CRUN_IS_OLD = f"{{version}}, Debian's, refuses bundles of OCI {OCI_VERSION}, which containerd and CRI-O write"
CRIO_CONFIG = """[crio]
root = "/var/lib/cri-o"
runroot = "/run/cri-o/storage"
storage_driver = "overlay"
log_dir = "/var/log/cri-o"
version_file = "/run/cri-o/version"
version_file_persist = ""
clean_shutdown_file = ""
internal_wipe = false
[crio.api]
listen = "{socket}"
stream_address = "127.0.0.1"
stream_port = "0"
[crio.runtime]
cgroup_manager = "cgroupfs"
default_runtime = "{low}"
pinns_path = "{pinns}"
hooks_dir = []
enable_pod_events = true
enable_criu_support = false
container_exits_dir = "/run/cri-o/exits"
container_attach_socket_dir = "/run/cri-o/attach"
[crio.runtime.runtimes.{low}]
runtime_path = "{path}"
runtime_root = "/run/{low}"
monitor_path = "{conmon}"
monitor_cgroup = "pod"
[crio.image]
pause_image = "registry.k8s.io/pause:3.10"
signature_policy = "{policy}"
[crio.network]
network_dir = "{conf}"
plugin_dirs = ["{plugins}"]
[crio.metrics]
enable_metrics = false
[crio.nri]
enable_nri = false
"""


class Absent(Exception):
    """A runtime that cannot be measured here, and why."""


class CrunContainerd(Containerd):
    """containerd whose shim runs crun."""

    def __init__(self) -> None:
        if not crun_is_new_enough():
            raise Absent(CRUN_IS_OLD.format(version=crun_version()))
        super().__init__()

    def config(self, mirrors: pathlib.Path) -> str:
        return super().config(mirrors).replace(f'BinaryName = "{shutil.which("runc")}"', f'BinaryName = "{program("crun")}"')

    def command(self, config: pathlib.Path) -> list[str]:
        return without_hybrid(super().command(config))


class Crio(Runtime):
    """CRI-O with conmon, and with crun where it can run."""

    name = "cri-o"
    config_name = "crio.conf"
    state_folders = ("/run/crun", "/run/runc", "/run/cri-o/exits", "/run/cri-o/attach")

    def configure(self) -> pathlib.Path:
        folder = pathlib.Path("/etc/containers")
        folder.mkdir(exist_ok=True)
        (folder / "registries.conf").write_text("".join(map(mirrored, registry.MIRRORED)))
        self.policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        return super().configure()

    @property
    def policy(self) -> pathlib.Path:
        return self.mirrors.with_name("policy.json")

    def config(self, mirrors: pathlib.Path) -> str:
        low = low_runtime()
        found = {"low": low, "path": program(low), "conmon": program("conmon"), "pinns": program("pinns")}
        return CRIO_CONFIG.format(socket=self.socket, policy=self.policy, conf=CNI_CONF, plugins=PLUGINS, **found)

    def command(self, config: pathlib.Path) -> list[str]:
        command = [program("crio"), "--config", str(config), "--config-dir", ""]
        return without_hybrid(command) if low_runtime() == "crun" else command


class BundledCorten(Corten):
    """Corten with its own plugins, where the conflist names only such."""

    bundled_plugins = "prefer"


RUNTIMES = {
    "containerd": Containerd, "containerd+crun": CrunContainerd, "cri-o": Crio, "corten": Corten,
    "corten+bundled": BundledCorten,
}
# Every process that a runtime owns, by the end of its program's path.
OWN = {
    "corten": re.compile(r"/(corten|corten-shim|corten-cni)( \(deleted\))?$"),
    "containerd": re.compile(r"/(containerd|containerd-shim-runc-v2|pause|runc|crun)( \(deleted\))?$"),
    "cri-o": re.compile(r"/(crio|conmon|pause|crun|pinns)( \(deleted\))?$"),
}


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Absent(os.environ.get("CORTEN_WITHOUT_" + name.upper()) or f"there is no {name} here")
    return found


def low_runtime() -> str:
    """What CRI-O starts containers with: its own default, where that can run."""
    return "crun" if shutil.which("crun") and crun_is_new_enough() else "runc"


@functools.cache
def crun_is_new_enough() -> bool:
    """Whether it reads a bundle of the version that peers write: its own, but for the version."""
    with tempfile.TemporaryDirectory() as bundle:
        subprocess.run([program("crun"), "spec"], cwd=bundle, check=True)
        path = pathlib.Path(bundle, "config.json")
        config = {**json.loads(path.read_text()), "ociVersion": OCI_VERSION, "root": {"path": "none"}}
        path.write_text(json.dumps(config))
        words = [program("crun"), "--root", bundle + "/state", "run", "--bundle", bundle, "too-old"]
        said = subprocess.run(without_hybrid(words), capture_output=True, text=True, check=False).stderr
    return "unknown version" not in said


def crun_version() -> str:
    said = subprocess.run([program("crun"), "--version"], capture_output=True, text=True, check=False).stdout
    return said.splitlines()[0] if said else "crun"


def bundled_plugins_are_there() -> bool:
    return pathlib.Path(os.environ["CORTEN_DIST"], BUNDLED).exists()


def mirrored(host: str) -> str:
    return (f'[[registry]]\nlocation = "{host}"\n'
            f'[[registry.mirror]]\nlocation = "{registry.ADDRESS}"\ninsecure = true\n')


def without_hybrid(command: list[str]) -> list[str]:
    """What is mounted later is seen on both sides of a slave's end only by the slave: nobody else looks for it."""
    if not HYBRID.is_mount():
        return command
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", f'umount {HYBRID} && exec "$@"', "sh", *command]


# The runtimes of all tiers under their own names, so that none of them is known in two ways.
assert runtimes.RUNTIMES.items() <= RUNTIMES.items()
