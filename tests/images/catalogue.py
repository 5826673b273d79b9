"""Which images the tests use, and what each must hold for the spec that uses it."""

import userland
from layer import single_file

SHELL = {"Cmd": ["sh"]}
E2E = "e2e-test-images/"
CRI_TOOLS = "k8s-staging-cri-tools/"
NGINX = {"Cmd": ["nginx", "-g", "daemon off;"]}
HTTPD = {"Cmd": ["sh", "-c", "echo httpd starting; exec httpd -f -v -p 80 -h /htdocs"]}
PAUSE = {"Entrypoint": ["/pause"], "User": "65535:65535"}
# Users of images, by the ending of the image's name.
USERS = {"uid": "1002", "username": "www-data", "uid-group": "1003:1004", "username-group": "www-data:1004"}
BENCHMARK_TAGS = ("1", "1-glibc", "1-uclibc", "1-musl", "1.35.0-glibc")


def critest(registry, work: str, program: str) -> dict[str, str]:
    """Pushes the validation suite's images. Gives the digests that its constants must be set to."""
    base = userland.busybox(program)
    registry.push_index(E2E + "busybox:1.29-2", [base], SHELL)
    port80 = {"ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    registry.push(E2E + "nginx:1.14-2", [base, userland.nginx(work, 80)], {**NGINX, **port80})
    page = single_file("htdocs/index.html", b"<html>It works!</html>")
    registry.push(E2E + "httpd:2.4.39-4", [base, page], HTTPD)
    setuid = userland.compiled(work, "nonewprivs", "nonewprivs", 0o4755)
    registry.push(E2E + "nonewprivs:1.3", [base, setuid], {"Cmd": ["/nonewprivs"], "User": "1000"})
    registry.push(f"{CRI_TOOLS}hostnet-nginx-{registry.architecture}:latest", [base, userland.nginx(work, 12003)], NGINX)
    _pause(registry, work)
    _users(registry, base, program)
    return _names(registry, base)


def benchmark(registry, program: str) -> None:
    """The small images of the suite's benchmarks: different ids, one userland."""
    base = userland.busybox(program)
    for tag in BENCHMARK_TAGS:
        registry.push(f"docker/library/busybox:{tag}", [base, single_file("TAG", tag.encode())], SHELL)


def _pause(registry, work: str) -> None:
    program = userland.compiled(work, "pause", "pause")
    for version in ("3.9", "3.10", "3.10.1", "3.10.2"):
        registry.push(f"pause:{version}", [program, single_file("VERSION", version.encode())], PAUSE)


def _users(registry, base, program: str) -> None:
    for ending, user in USERS.items():
        registry.push(f"{CRI_TOOLS}test-image-user-{ending}:latest", [base], {**SHELL, "User": user})
    grouped = userland.busybox(
        program,
        users="default-user:x:1000:1000::/home:/bin/sh\n",
        groups="default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n",
    )
    registry.push(CRI_TOOLS + "test-image-predefined-group:latest", [grouped], {**SHELL, "User": "1000"})


def _names(registry, base) -> dict[str, str]:
    """Images that differ in nothing but a file named after them; the three tags of one are one manifest."""
    for name in ("latest:latest", "tag:test", "tag:all", "1:latest", "2:latest", "3:latest"):
        marker = single_file("TEST-" + name.replace(":", "-"), name.encode())
        registry.push(f"{CRI_TOOLS}test-image-{name}", [base, marker], SHELL)
    for tag in "123":
        registry.push(f"{CRI_TOOLS}test-image-tags:{tag}", [base, single_file("TEST-tags", b"tags")], SHELL)
    by_digest = registry.push(CRI_TOOLS + "test-image-digest:latest", [base, single_file("TEST-digest", b"digest")], SHELL)
    return {"test-image-digest": by_digest}
