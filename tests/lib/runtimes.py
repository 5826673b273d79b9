"""The runtimes that the tiers run against: Corten, and containerd as the peer to compare with."""

import json
import os
import pathlib
import shutil
import subprocess

import registry
from service import Service
from wait import until

# Where a Corten of the tests tells its figures.
METRICS = "http://127.0.0.1:9561/metrics"
# One of these is among the arguments of a program that Corten keeps in reserve.
IN_RESERVE = {"0" * 64, "--spare"}
CNI_CONF = pathlib.Path("/etc/cni/net.d")
PLUGINS = "/opt/cni/bin"
POD_SUBNET = "10.88.0.0/16"
CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "tests",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_SUBNET}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
    ],
}
CORTEN_CONFIG = """endpoint = "unix:///run/corten/corten.sock"
root = "/var/lib/corten"
state = "/run/corten"

[registry]
config_path = ["{mirrors}"]

[cni]
conf_dir = "{conf}"
bin_dirs = ["{plugins}"]
bundled_plugins = "{bundled}"

[metrics]
address = "127.0.0.1:9561"
"""
CONTAINERD_CONFIG = """version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "registry.k8s.io/pause:3.10"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "{mirrors}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{conf}"
"""


def write_conflist() -> None:
    """The network of all runtimes."""
    CNI_CONF.mkdir(parents=True, exist_ok=True)
    (CNI_CONF / "10-tests.conflist").write_text(json.dumps(CONFLIST, indent=1))


class Runtime:
    """A running CRI runtime: its service, and the folders in which it keeps one entry per sandbox or container."""

    name: str
    state_folders: tuple[str, ...]

    def __init__(self) -> None:
        self.socket = f"/run/{self.name}/{self.name}.sock"
        self.endpoint = f"unix://{self.socket}"
        self.mirrors = pathlib.Path(f"/etc/{self.name}/certs.d")
        registry.write_mirrors(self.mirrors)
        pathlib.Path("/etc/crictl.yaml").write_text(f"runtime-endpoint: {self.endpoint}\ntimeout: 60\n")
        self.service = self.install()
        self.await_ready()

    def install(self) -> Service:
        """Writes the configuration of the runtime and of its network, and starts it."""
        return Service(self.name, self.command(self.configure()))

    def configure(self) -> pathlib.Path:
        config = pathlib.Path(f"/etc/{self.name}/{self.config_name}")
        write_conflist()
        config.write_text(self.config(self.mirrors))
        return config

    def await_ready(self) -> None:
        try:
            until(self.ready, 30, f"{self.name} says RuntimeReady and NetworkReady")
        except AssertionError as error:
            raise SystemExit(f"{error}\n{self.service.tail()}") from None

    def ready(self) -> bool:
        if not self.service.running():
            raise SystemExit(f"{self.name} has ended:\n{self.service.tail()}")
        conditions = json.loads(self.crictl("info", "-o", "json"))["status"]["conditions"]
        return all(one["status"] for one in conditions if one["type"] in ("RuntimeReady", "NetworkReady"))

    def crictl(self, *words: str) -> str:
        done = subprocess.run(["crictl", *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"crictl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def stop(self) -> None:
        self.service.stop()


class Corten(Runtime):
    name = "corten"
    config_name = "corten.toml"
    state_folders = ("/var/lib/corten/sandboxes", "/var/lib/corten/containers", "/run/corten")
    bundled_plugins = os.environ.get("CORTEN_BUNDLED_PLUGINS", "fallback")

    def config(self, mirrors: pathlib.Path) -> str:
        return CORTEN_CONFIG.format(mirrors=mirrors, conf=CNI_CONF, plugins=PLUGINS, bundled=self.bundled_plugins)

    def command(self, config: pathlib.Path) -> list[str]:
        return [os.path.join(os.environ["CORTEN_DIST"], "corten"), "serve", "--config", str(config)]

    def start_again(self, streaming: str = "") -> None:
        """Stops the daemon and starts it with these keys of `[streaming]`."""
        self.service.stop()
        config = pathlib.Path("/etc/corten", self.config_name)
        config.write_text(self.config(self.mirrors) + f"\n[streaming]\n{streaming}\n")
        self.service.restart()
        self.await_ready()


class Containerd(Runtime):
    name = "containerd"
    config_name = "config.toml"
    state_folders = (
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
        "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
        "/var/lib/containerd/io.containerd.grpc.v1.cri/containers",
    )

    def config(self, mirrors: pathlib.Path) -> str:
        return CONTAINERD_CONFIG.format(mirrors=mirrors, conf=CNI_CONF, plugins=PLUGINS, runc=shutil.which("runc"))

    def command(self, config: pathlib.Path) -> list[str]:
        return ["containerd", "--config", str(config)]


RUNTIMES = {"corten": Corten, "containerd": Containerd}
