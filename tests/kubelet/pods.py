"""The first static pods of the kubelet tier, one for each thing to prove, and what the others are made of."""

import os
import pathlib

IMAGE = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
HOST_PORT = 18080
PAGE = "written by the init container"
LONG_LINE = 40_000
# The tests tell the pods by files in this folder of the host what to do next.
SIGNALS = pathlib.Path(os.environ.get("CORTEN_NODE", "/nonexistent"), "signals")


def pod(name: str, **spec) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 30, **spec},
    }


def main(script: str, **more) -> dict:
    """The pod's container: a shell script in the tests' userland."""
    return {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], **more}


def signals() -> dict:
    return {"name": "signals", "hostPath": {"path": str(SIGNALS), "type": "Directory"}}


SIGNALS_MOUNT = {"name": "signals", "mountPath": "/signals", "readOnly": True}
# Ends at once when told to: `sleep` in the foreground would hold back the shell's trap.
IDLE = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"


def web() -> dict:
    """An init container hands a page to the web server through an emptyDir; a host port leads to it."""
    shared = {"name": "shared", "mountPath": "/shared"}
    init = {**main(f"echo '{PAGE}' >/shared/index.html; echo init done"), "name": "init", "volumeMounts": [shared]}
    server = main(
        "exec httpd -f -p 8080 -h /shared",
        ports=[{"containerPort": 8080, "hostPort": HOST_PORT}],
        volumeMounts=[shared],
        readinessProbe={"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1},
    )
    return pod("web", initContainers=[init], containers=[server], volumes=[{"name": "shared", "emptyDir": {}}],
               terminationGracePeriodSeconds=1)


def ready_when_told() -> dict:
    probe = {"exec": {"command": ["test", "-e", "/signals/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    return pod("ready", containers=[main(IDLE, readinessProbe=probe, volumeMounts=[SIGNALS_MOUNT])], volumes=[signals()])


def sick_when_told() -> dict:
    probe = {"exec": {"command": ["test", "!", "-e", "/signals/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    return pod("live", containers=[main(IDLE, livenessProbe=probe, volumeMounts=[SIGNALS_MOUNT])], volumes=[signals()])


def limited() -> dict:
    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    return pod("limited", containers=[main(IDLE, resources=resources)])


def crashing() -> dict:
    return pod("crash", containers=[main("echo about to fail; exit 7")])


def finishing() -> dict:
    return pod("finish", restartPolicy="Never", containers=[main("echo all done")])


def graceful() -> dict:
    script = "trap 'echo farewell; exit 0' TERM; echo up; while :; do sleep 3600 & wait $!; done"
    return pod("graceful", containers=[main(script)])


def talking() -> dict:
    """Both streams, an unfinished last line, and a line longer than a log entry may be."""
    script = (
        "echo to stdout; echo to stderr >&2;"
        f" head -c {LONG_LINE} /dev/zero | tr '\\0' x; echo;"
        " printf 'without an end'"
    )
    return pod("talk", restartPolicy="Never", containers=[main(script)])

