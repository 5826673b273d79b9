"""Images as volumes: what the kubelet sends for them, and what it makes of what it is told."""

import re

from on_kubelet import START, OnKubelet
from pods import IDLE, IMAGE, main, pod
from wait import until


def image_volume() -> dict:
    return {"name": "data", "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}}


def seeing_an_image() -> dict:
    """Whole and a path of it; beside it a path of another volume, for which the kubelet names a path of no image."""
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "data", "mountPath": "/programs", "subPath": "bin"},
              {"name": "shared", "mountPath": "/part", "subPath": "part"}]
    script = "/data/bin/sh -c 'echo executed'; touch /data/x 2>/dev/null || echo refused; /programs/echo a path; "
    return pod("seeing", containers=[main(script + IDLE, volumeMounts=mounts)],
               volumes=[image_volume(), {"name": "shared", "emptyDir": {}}])


def seeing_nothing() -> dict:
    mounts = [{"name": "data", "mountPath": "/data", "subPath": "no/such/path"}]
    return pod("seeing-nothing", containers=[main(IDLE, volumeMounts=mounts)], volumes=[image_volume()])


class ImageVolumes(OnKubelet):
    def test_image_and_a_path_of_it_are_seen_and_executed_but_not_written(self):
        self.await_running("seeing")
        log = self.kubelet.log_file("seeing", "main")
        until(lambda: "a path" in log.read_text(), START, "the container has looked")
        said = [line.split(" ", 3)[3] for line in log.read_text().splitlines()]
        self.assertEqual(said, ["executed", "refused", "a path"])

    def test_path_that_is_not_there_is_told_in_the_kubelets_word(self):
        def told() -> bool:
            waiting = self.kubelet.container("seeing-nothing")["state"]["waiting"]
            is_it = re.match("ImageVolumeMountFailed: .*no/such/path", waiting.get("message", ""))
            return waiting["reason"] == "CreateContainerError" and is_it is not None

        # A daemon that is being killed fails in other words; the kubelet tries again.
        until(told, START, "CreateContainerError: ImageVolumeMountFailed: .*no/such/path")


PODS = (seeing_an_image, seeing_nothing)
CASES = (ImageVolumes,)
