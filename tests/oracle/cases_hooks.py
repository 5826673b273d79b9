"""Hooks: when each of them runs, where, with what on its stdin, and what their failures do."""

import os
import shutil

POINTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
# Tells in a file of the bundle that it ran and where: the state that it was given, its arguments, its variables and namespaces.
SCRIPT = """#!/bin/sh
{
  echo "run of ${1:-nothing}"
  sed -e 's/"pid": *[0-9][0-9]*/"pid":PID/' -e 's/[{}]//g' | tr ',' '\\n' | sed -e 's/^ */state-/' -e 's/": */" /' | sort -u
  echo "arguments $0 $*"
  env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sed 's/^/variable-/; s/=/ /' | sort
  echo "directory $(pwd)"
  for kind in mnt pid uts net; do
    [ "$(readlink /proc/self/ns/$kind)" = "$(cat BUNDLE/host-$kind 2>/dev/null)" ] && echo "$kind the host's" || echo "$kind the container's"
  done
  grep -E '^(Uid|Cap|NoNew|Seccomp:)' /proc/self/status | tr '\\t' ' '
} >> PLACE/trace 2>&1
"""


def script(bundle, inside=False):
    """The hook, on the host or in the container, with a shell to run it there."""
    place = "/data" if inside else str(bundle.directory)
    text = SCRIPT.replace("BUNDLE", str(bundle.directory)).replace("PLACE", place)
    path = bundle.root / "hook" if inside else bundle.directory / "hook"
    path.write_text(text)
    path.chmod(0o755)
    for kind in ("mnt", "pid", "uts", "net"):
        (bundle.directory / f"host-{kind}").write_text(os.readlink(f"/proc/self/ns/{kind}"))
    if inside:
        (bundle.root / "bin").mkdir(exist_ok=True)
        for applet in ("sh", "sed", "tr", "sort", "env", "grep", "readlink", "cat", "sleep", "false"):
            shutil.copy("/bin/busybox", bundle.root / "bin" / applet)
        bundle.traces.append("rootfs/data/trace")
    else:
        bundle.traces.append("trace")


def hook(bundle, point, **more):
    path = "/hook" if point == "startContainer" else str(bundle.directory / "hook")
    return {"path": path, "args": ["hook", point, "and more"], "env": ["PATH=/bin:/usr/bin", "POINT=" + point], **more}


def at(*points):
    def change(bundle):
        for point in points:
            script(bundle, inside=point == "startContainer")
            bundle.set(f"/hooks/{point}", [hook(bundle, point)])

    return change


def program(point, path, *arguments, **more):
    def change(bundle):
        script(bundle, inside=point == "startContainer")
        found = {"path": path, "args": [path, *arguments], "env": ["PATH=/bin:/usr/bin"], **more}
        # Those behind it are not reached where it fails.
        bundle.set(f"/hooks/{point}", [found, hook(bundle, point)])
        if point != "poststop":
            at("poststop")(bundle)

    return change


DIMENSIONS = {
    "hook": {
        **{point: at(point) for point in POINTS},
        "all": at(*POINTS),
        "two": lambda bundle: (at("createRuntime")(bundle), bundle.at("/hooks/createRuntime").append(hook(bundle, "createRuntime"))),
        "without arguments": lambda bundle: (at("createRuntime")(bundle), bundle.at("/hooks/createRuntime")[0].pop("args")),
        "without variables": lambda bundle: (at("poststart")(bundle), bundle.at("/hooks/poststart")[0].pop("env")),
        "none": lambda bundle: bundle.set("/hooks", {}),
        "empty lists": lambda bundle: bundle.set("/hooks", {point: [] for point in POINTS}),
    },
    "hook fails": {
        point: program(point, "/bin/sh" if point != "startContainer" else "/bin/sh", "-c", "echo it says why >&2; exit 7") for point in POINTS
    },
    "hook takes too long": {
        point: program(point, "/bin/sleep", "30", timeout=1) for point in ("createRuntime", "createContainer", "startContainer", "poststart")
    },
    "hook is missing": {
        point: program(point, "/no/such/hook") for point in ("createRuntime", "createContainer", "poststop")
    },
}  # fmt: skip

