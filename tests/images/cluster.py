"""The images of a whole cluster, under the names by which kubeadm v1.36.0 asks for them."""

import pathlib

import userland
from layer import Blob, Layer

KUBERNETES = "v1.36.0"
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
# By the program's name; etcd's and CoreDNS' tags are what this kubeadm has in its constants.
OTHERS = {
    "etcd": "etcd:3.6.8-0",
    "coredns": "coredns/coredns:v1.14.2",
    "metrics-server": "metrics-server/metrics-server:v0.9.0",
}
FASTEST = 1


def push(registry, busybox: str, folders: list[pathlib.Path]) -> None:
    """Each program alone in its image, as distroless ones are; kube-proxy with the commands that it calls."""
    for name in CONTROL_PLANE:
        _alone(registry, f"{name}:{KUBERNETES}", _find(folders, name))
    for name, reference in OTHERS.items():
        _alone(registry, reference, _find(folders, name))
    proxy = _find(folders, "kube-proxy")
    layers = [userland.busybox(busybox), userland.iptables(), _layer(proxy)]
    registry.push(f"kube-proxy:{KUBERNETES}", layers, {"Entrypoint": [_place(proxy)]})


def _alone(registry, reference: str, program: pathlib.Path) -> None:
    registry.push(reference, [_layer(program)], {"Entrypoint": [_place(program)]})


def _place(program: pathlib.Path) -> str:
    """kubeadm's manifests name most programs without a path: this one is in every image's PATH."""
    return f"/usr/local/bin/{program.name}"


def _layer(program: pathlib.Path) -> Blob:
    layer = Layer()
    layer.program(_place(program), str(program))
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/sbin/nologin\n")
    layer.directory("tmp", 0o1777)
    return layer.done(FASTEST)


def _find(folders: list[pathlib.Path], name: str) -> pathlib.Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise SystemExit(f"no program {name} in {', '.join(map(str, folders))}: build it with tests/tools/build")
